//! Merge rules that the fields of models and dataclasses declare. Which there are is found and checked in Python
//! (`flujo.domain._merge_rules`); here they are asked.

use pyo3::exceptions::{PyException, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyType};

use super::clone::clone;
use super::combine::{Merger, Value, Version};
use super::kind;

/// The rules of a class by field; `None` where it has none.
pub(super) fn of<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyDict>>> {
    static FIND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = class.py();
    let declares =
        class.is_subclass(kind::base_model(py)?)? || class.hasattr(intern!(py, "__dataclass_fields__"))?;
    if !declares {
        return Ok(None);
    }
    let find = FIND.import(py, "flujo.domain._merge_rules", "rules_of")?;
    Ok(find.call1((class,))?.cast_into::<PyDict>().ok())
}

/// Refuses a class one of whose fields, at any depth, has a rule that can't work.
pub(super) fn check(class: &Bound<'_, PyType>) -> PyResult<()> {
    static CHECK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let check = CHECK.import(class.py(), "flujo.domain._merge_rules", "check")?;
    check.call1((class,)).map(drop)
}

impl<'py> Merger<'_, 'py> {
    /// What becomes of a field that the given lanes wrote.
    pub(super) fn field(
        &mut self,
        rules: Option<&Bound<'py, PyDict>>,
        name: &Bound<'py, PyString>,
        before: Option<&Bound<'py, PyAny>>,
        written: Vec<Version<'py>>,
    ) -> PyResult<Value<'py>> {
        if written.len() > 1
            && let Some(rules) = rules
            && let Some(rule) = rules.get_item(name)?
        {
            return self.by_rule(&rule, before, &written);
        }
        self.combine_written(before, written)
    }

    fn by_rule(
        &mut self,
        rule: &Bound<'py, PyAny>,
        before: Option<&Bound<'py, PyAny>>,
        written: &[Version<'py>],
    ) -> PyResult<Value<'py>> {
        let py = self.py;
        let shown: String = rule.getattr(intern!(py, "shown"))?.extract()?;
        let outcome = match shown.as_str() {
            "merge.First()" => return Ok(written.first().and_then(|(_, value)| value.clone())),
            "merge.Last()" => return Ok(written.last().and_then(|(_, value)| value.clone())),
            _ => self.ask(rule, before, written),
        };
        match outcome {
            Ok(combined) => Ok(Some(combined)),
            Err(error) if error.is_instance_of::<PyException>(py) => {
                let reason = format!("{shown} can't combine them: {}", error.value(py));
                Err(self.conflict_because(written, &reason, Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    fn ask(
        &self,
        rule: &Bound<'py, PyAny>,
        before: Option<&Bound<'py, PyAny>>,
        written: &[Version<'py>],
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let values: Option<Vec<_>> = written.iter().map(|(_, value)| value.clone()).collect();
        let Some(values) = values else {
            return Err(PyValueError::new_err("a branch removed the field"));
        };
        let before = before.cloned().unwrap_or_else(|| py.None().into_bound(py));
        let combine = rule.getattr(intern!(py, "combine"))?;
        if rule.getattr(intern!(py, "is_shipped"))?.is_truthy()? {
            for value in std::iter::once(&before).chain(&values) {
                self.pace.spend(py, value.len().unwrap_or(1))?;
            }
            return combine.call1((before, values));
        }
        // Somebody else's code may change what it is given, keep it, and never come to an end.
        let values: Vec<_> = values
            .iter()
            .map(|value| clone(value, self.pace))
            .collect::<PyResult<_>>()?;
        let before = clone(&before, self.pace)?;
        let combined = self.pace.of_others(py, || combine.call1((before, values)))?;
        clone(&combined?, self.pace)
    }
}
