//! Contexts as they are written down with what happens in a run.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ContextCell, Source};
use crate::context::{self as view, ContextWrites, Handle, SavedContext, saved};
use crate::host::domain::Python3;

/// What a context is before a call is given it.
#[derive(Debug)]
pub(crate) struct Base {
    cell: Arc<ContextCell>,
    /// Its snapshot, where the call writes to it and not to a fork.
    before: Option<Py<PyDict>>,
}

/// What a call wrote to its context.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Writes {
    /// Nothing.
    None,
    /// This.
    These(ContextWrites),
    /// It gave another context in its place.
    Instead(Form),
    /// What can't be written down.
    Failed(Failed),
}

/// Why something can't be written down.
#[derive(Debug, Deserialize)]
pub(crate) struct Failed(String);

impl Serialize for Failed {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom(&self.0))
    }
}

/// A cell as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Form {
    context: SavedContext,
    copies: bool,
}

impl Base {
    /// `in_place`: the call writes to this very context.
    pub(crate) fn of(py: Python<'_>, cell: &Arc<ContextCell>, in_place: bool) -> PyResult<Self> {
        let before = match cell.object.get() {
            Some(object) if in_place => saved::now(object.object().bind(py))?,
            _ => None,
        };
        let cell = Arc::clone(cell);
        Ok(Self { cell, before })
    }

    pub(crate) fn cell(&self) -> &Arc<ContextCell> {
        &self.cell
    }
}

impl Writes {
    pub(crate) fn of(base: &Base, fork: &Arc<ContextCell>) -> Self {
        Python::attach(|py| match written(py, base, fork) {
            Ok(writes) => writes,
            Err(error) => Self::Failed(Failed(error.to_string())),
        })
    }

    /// A context like `base` with the same written to it: itself, where it is `isolated`.
    pub(crate) fn again(
        self,
        py: Python<'_>,
        base: &Arc<ContextCell>,
        isolated: bool,
    ) -> PyResult<Arc<ContextCell>> {
        let own = || {
            if isolated {
                Arc::clone(base)
            } else {
                <Python3 as flujo_core::machine::Domain>::fork(base)
            }
        };
        match self {
            Self::None => Ok(own()),
            Self::These(writes) => {
                let own = own();
                saved::write_again(&own.object(py)?, &writes)?;
                Ok(own)
            }
            Self::Instead(form) => Ok(Arc::new(form.cell(py)?)),
            Self::Failed(Failed(reason)) => Err(pyo3::exceptions::PyValueError::new_err(reason)),
        }
    }
}

fn written(py: Python<'_>, base: &Base, fork: &Arc<ContextCell>) -> PyResult<Writes> {
    let Some(object) = fork.object.get() else {
        return Ok(Writes::None);
    };
    let in_place = Arc::ptr_eq(&base.cell, fork);
    let of_base = matches!(&fork.source, Source::Fork(of, _) if Arc::ptr_eq(of, &base.cell));
    if in_place || of_base {
        let before = base.before.as_ref().filter(|_| in_place);
        let writes = saved::writes(object.object().bind(py), before.map(|before| before.bind(py)))?;
        if let Some(writes) = writes {
            return Ok(if writes.is_empty() {
                Writes::None
            } else {
                Writes::These(writes)
            });
        }
    }
    Ok(Writes::Instead(Form::of(py, fork)?))
}

impl Form {
    fn of(py: Python<'_>, cell: &ContextCell) -> PyResult<Self> {
        Ok(Self {
            context: saved::save(&cell.object(py)?)?,
            copies: cell.copies,
        })
    }

    fn cell(&self, py: Python<'_>) -> PyResult<ContextCell> {
        let object = saved::restore(py, &self.context)?;
        if self.copies {
            view::copy_all(&object)?;
        }
        Ok(ContextCell {
            object: OnceLock::from(Handle::of(&object)?),
            source: Source::Given,
            copies: self.copies,
            records: false,
        })
    }
}

impl Serialize for ContextCell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = Python::attach(|py| Form::of(py, self)).map_err(S::Error::custom)?;
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ContextCell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Form::deserialize(deserializer)?;
        Python::attach(|py| form.cell(py)).map_err(D::Error::custom)
    }
}
