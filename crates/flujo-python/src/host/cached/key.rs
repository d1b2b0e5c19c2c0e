//! What a result depends on: the step, its input, and of context and resources what its scope says.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use flujo_core::cache::{CacheKey, CacheScope, Fields, KeyBuilder, Uncached, Wanted};
use flujo_core::plan::{CachedStep, Kind};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyDict, PyString};

use super::super::callable::{CallableSpec, Given};
use super::super::context::ContextCell;
use super::super::domain::CacheGet;
use super::Use;
use crate::cache::{Purpose, Unwritable, write};
use crate::context;

/// Which result is wanted.
pub(super) struct Key {
    /// Of the step, its input and its declared scope.
    pub(super) primary: CacheKey,
    /// The context's attributes, where the result depends on what the step reads of them.
    snapshot: Option<Py<PyDict>>,
    /// It holds in this process only.
    is_local: bool,
}

/// Why there is no key.
pub(super) enum Unkeyed {
    /// And what is at fault.
    Because(Uncached, String),
    Raised(PyErr),
}

impl From<PyErr> for Unkeyed {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl Key {
    pub(super) fn of(py: Python<'_>, place: &Use, get: &CacheGet) -> Result<Option<Self>, Unkeyed> {
        let holder = place.shared.plan.plan.node(get.node);
        let (Kind::Step(step), Some(own)) = (&holder.kind, place.own()) else {
            return Ok(None);
        };
        let Some(cached) = &step.cache else {
            return Ok(None);
        };
        let mut parts = Parts {
            key: KeyBuilder::new("python"),
            is_local: false,
        };
        parts.key.key(cached.base);
        parts.value(&stands_for(py, cached, get)?, Uncached::Input)?;
        let mut snapshot = None;
        match &cached.policy.scope {
            CacheScope::Input => {}
            CacheScope::Auto => {
                if own.uses_resources {
                    parts.resources(py, place)?;
                }
                if own.uses_context {
                    snapshot = Some(context::snapshot(&get.context.object(py)?)?.unbind());
                }
            }
            CacheScope::Declared { fields, resources } => {
                if !fields.is_empty() {
                    let found = get.context.object(py)?;
                    let attributes = context::snapshot(&found)?;
                    for path in fields {
                        parts.declared_field(&attributes, path)?;
                    }
                    read_declared(py, &get.context, fields)?;
                }
                for path in resources {
                    parts.declared_resource(py, place, path)?;
                }
            }
        }
        Ok(Some(Self {
            primary: parts.key.finish(),
            snapshot,
            is_local: parts.is_local,
        }))
    }

    /// Whether what the step reads is part of it.
    pub(super) fn depends_on_reads(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Does something with it as the cache wants it; tells whether what came of it holds in this process only.
    pub(super) fn with<T>(&self, py: Python<'_>, act: impl FnOnce(Wanted<'_>) -> T) -> PyResult<(T, bool)> {
        let Some(snapshot) = &self.snapshot else {
            let wanted = Wanted {
                primary: self.primary,
                fields: None,
            };
            return Ok((act(wanted), self.is_local));
        };
        let fields = Attributes {
            snapshot: snapshot.bind(py).clone(),
            is_local: Cell::new(self.is_local),
            raised: RefCell::new(None),
        };
        let done = act(Wanted {
            primary: self.primary,
            fields: Some(&fields),
        });
        match fields.raised.take() {
            Some(error) => Err(error),
            None => Ok((done, fields.is_local.get())),
        }
    }

    pub(super) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.snapshot {
            Some(snapshot) => visit.call(snapshot),
            None => Ok(()),
        }
    }
}

/// The input, or what the step's template makes of it.
fn stands_for<'py>(
    py: Python<'py>,
    cached: &CachedStep<Arc<CallableSpec>>,
    get: &CacheGet,
) -> Result<Bound<'py, PyAny>, Unkeyed> {
    let input = get.input.bind(py).clone();
    let Some(spec) = &cached.key else {
        return Ok(input);
    };
    let context = if spec.wants_context() {
        Some(Arc::new(ContextCell::fork_of(&get.context)).object(py)?)
    } else {
        None
    };
    let given = Given {
        input: Some(input),
        context,
        ..Given::default()
    };
    spec.call(py, &given).map_err(|error| {
        if error.is_instance_of::<PyException>(py) {
            Unkeyed::Because(Uncached::Input, format!("{error}; "))
        } else {
            Unkeyed::Raised(error)
        }
    })
}

/// Whoever is around this step depends on what it declares, too.
fn read_declared(py: Python<'_>, context: &Arc<ContextCell>, fields: &[Arc<str>]) -> PyResult<()> {
    if let Some(log) = context.read_log(py)? {
        for path in fields {
            log.read(path.split('.').next().unwrap_or_default());
        }
    }
    Ok(())
}

struct Parts {
    key: KeyBuilder,
    is_local: bool,
}

impl Parts {
    fn value(&mut self, value: &Bound<'_, PyAny>, reason: Uncached) -> Result<(), Unkeyed> {
        match write(value, Purpose::Key) {
            Ok(written) => {
                self.key.bytes(&written.bytes);
                self.is_local |= written.is_local;
                Ok(())
            }
            Err(Unwritable::Refused(why)) => Err(Unkeyed::Because(reason, format!("{why}; "))),
            Err(Unwritable::Raised(error)) => Err(Unkeyed::Raised(error)),
        }
    }

    /// The runner's resources: by their fingerprint, else by their attributes; what has no form stands for itself in this
    /// runner.
    fn resources(&mut self, py: Python<'_>, place: &Use) -> Result<(), Unkeyed> {
        let Some(resources) = place.shared.resources(py) else {
            return Ok(());
        };
        if let Some(fingerprint) = fingerprint(&resources)? {
            return self.value(&fingerprint, Uncached::Resource);
        }
        let Some(Ok(attributes)) = resources
            .getattr_opt(intern!(py, "__dict__"))?
            .map(Bound::cast_into::<PyDict>)
        else {
            self.of_this_runner(place);
            return Ok(());
        };
        let mut named: Vec<(String, Bound<'_, PyAny>)> = Vec::with_capacity(attributes.len());
        for (name, value) in attributes.iter() {
            named.push((name.extract()?, value));
        }
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (name, value) in named {
            self.key.text(&name);
            let value = fingerprint(&value)?.unwrap_or(value);
            match self.value(&value, Uncached::Resource) {
                Err(Unkeyed::Because(..)) => self.of_this_runner(place),
                done => done?,
            }
        }
        Ok(())
    }

    fn of_this_runner(&mut self, place: &Use) {
        self.key.text("this runner's").number(place.shared.engine.number);
        self.is_local = true;
    }

    fn declared_field(&mut self, attributes: &Bound<'_, PyDict>, path: &str) -> Result<(), Unkeyed> {
        self.key.text(path);
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let mut found = attribute(attributes, first)?;
        for name in rest.split('.').filter(|name| !name.is_empty()) {
            found = match found {
                Some(value) => part(&value, name)?,
                None => None,
            };
        }
        if let Some(value) = found {
            return self.value(&value, Uncached::Field);
        }
        self.key.text("absent");
        Ok(())
    }

    fn declared_resource(&mut self, py: Python<'_>, place: &Use, path: &str) -> Result<(), Unkeyed> {
        self.key.text(path);
        let mut found = place.shared.resources(py);
        for name in path.split('.') {
            found = match found {
                Some(value) => part(&value, name)?,
                None => None,
            };
        }
        let Some(value) = found else {
            return Err(Unkeyed::Because(
                Uncached::Resource,
                format!("the runner has no resources.{path}; "),
            ));
        };
        let value = fingerprint(&value)?.unwrap_or(value);
        self.value(&value, Uncached::Resource)
    }
}

/// What an object says stands for it in keys.
fn fingerprint<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = object.getattr_opt(intern!(object.py(), "cache_fingerprint"))?;
    match found {
        Some(found) if found.is_callable() => found.call0().map(Some),
        found => Ok(found),
    }
}

/// An entry of a dictionary, else an attribute.
fn part<'py>(value: &Bound<'py, PyAny>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    match value.cast::<PyDict>() {
        Ok(entries) => entries.get_item(name),
        Err(_) => value.getattr_opt(name),
    }
}

/// A field, or an extra value.
fn attribute<'py>(attributes: &Bound<'py, PyDict>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(value) = attributes.get_item(name)? {
        return Ok(Some(value));
    }
    let extra = attributes.get_item(intern!(attributes.py(), "__pydantic_extra__"))?;
    match extra.map(Bound::cast_into::<PyDict>) {
        Some(Ok(extra)) => extra.get_item(name),
        _ => Ok(None),
    }
}

/// A context's attributes, as keys see them.
struct Attributes<'py> {
    snapshot: Bound<'py, PyDict>,
    is_local: Cell<bool>,
    raised: RefCell<Option<PyErr>>,
}

impl Attributes<'_> {
    fn add(&self, key: &mut KeyBuilder, value: &Bound<'_, PyAny>) -> Option<()> {
        match write(value, Purpose::Key) {
            Ok(written) => {
                key.bytes(&written.bytes);
                self.is_local.set(self.is_local.get() || written.is_local);
                Some(())
            }
            Err(Unwritable::Refused(_)) => None,
            Err(Unwritable::Raised(error)) => {
                self.raised.replace(Some(error));
                None
            }
        }
    }

    fn all(&self, without: &[&Bound<'_, PyString>]) -> Option<CacheKey> {
        let mut named: Vec<(String, Bound<'_, PyAny>)> = Vec::with_capacity(self.snapshot.len());
        for (name, value) in self.snapshot.iter() {
            if !without.iter().any(|left_out| name.eq(left_out).unwrap_or(false)) {
                named.push((name.extract().ok()?, value));
            }
        }
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut key = KeyBuilder::new("context");
        for (name, value) in named {
            key.text(&name);
            self.add(&mut key, &value)?;
        }
        Some(key.finish())
    }
}

impl Fields for Attributes<'_> {
    fn digest(&self, field: &str) -> Option<CacheKey> {
        let mut key = KeyBuilder::new("field");
        match self.snapshot.get_item(field).ok()? {
            Some(value) => self.add(&mut key, &value)?,
            None => drop(key.text("absent")),
        }
        Some(key.finish())
    }

    fn whole(&self) -> Option<CacheKey> {
        self.all(&[context::fields_set_key(self.snapshot.py())])
    }

    fn alike(&self) -> Option<CacheKey> {
        let py = self.snapshot.py();
        let own = [
            context::fields_set_key(py),
            intern!(py, "run_id"),
            intern!(py, "initial_prompt"),
        ];
        self.all(&own)
    }
}
