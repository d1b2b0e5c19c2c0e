//! How instances of a class are written, decided once per class. The table holds classes weakly: it keeps none alive, and
//! never takes one for another that lived at its address before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use pyo3::exceptions::{PyBaseException, PyImportError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference};

/// What tells one kind of content from another, in canonical forms and stored values.
pub(super) mod tag {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const FALSE: u8 = 1;
    pub(crate) const TRUE: u8 = 2;
    pub(crate) const INT: u8 = 3;
    pub(crate) const BIG_INT: u8 = 4;
    pub(crate) const FLOAT: u8 = 5;
    pub(crate) const STR: u8 = 6;
    /// A text with lone surrogates.
    pub(crate) const ODD_STR: u8 = 7;
    pub(crate) const BYTES: u8 = 8;
    pub(crate) const BYTE_ARRAY: u8 = 9;
    pub(crate) const TUPLE: u8 = 10;
    pub(crate) const LIST: u8 = 11;
    pub(crate) const DICT: u8 = 12;
    pub(crate) const SET: u8 = 13;
    pub(crate) const FROZEN_SET: u8 = 14;
    pub(crate) const ELLIPSIS: u8 = 15;
    pub(crate) const COMPLEX: u8 = 16;
    pub(crate) const ENUM: u8 = 20;
    pub(crate) const FLAG: u8 = 21;
    pub(crate) const MODEL: u8 = 22;
    pub(crate) const DATACLASS: u8 = 23;
    pub(crate) const NAMED_TUPLE: u8 = 24;
    pub(crate) const SECRET: u8 = 25;
    /// Of the standard library: what its text is.
    pub(crate) const TEXT: u8 = 26;
    pub(crate) const DATE_TIME: u8 = 27;
    pub(crate) const TIME: u8 = 28;
    pub(crate) const TIME_DELTA: u8 = 29;
    pub(crate) const NAMED_CLASS: u8 = 30;
    pub(crate) const LOCAL_CLASS: u8 = 31;
    pub(crate) const ZONE: u8 = 32;
    pub(crate) const OFFSET: u8 = 33;
    /// Of the standard library: a dictionary or list that is more than one.
    pub(crate) const COLLECTION: u8 = 34;
    /// What is told of an exception.
    pub(crate) const ERROR: u8 = 35;
}

/// How instances of a class are written.
#[derive(Debug)]
pub(super) enum Form {
    Ellipsis,
    Complex,
    /// By name.
    Enum,
    /// By value: members may be combined.
    Flag,
    /// A pydantic model, by these fields.
    Model(Py<PyTuple>),
    /// A dataclass, by these fields.
    Dataclass(Py<PyTuple>),
    NamedTuple,
    /// A pydantic secret.
    Secret,
    /// By its text.
    Text,
    DateTime,
    Time,
    TimeDelta,
    /// `datetime.timezone`.
    Offset,
    /// `zoneinfo.ZoneInfo`.
    Zone,
    /// `OrderedDict`.
    Ordered,
    /// `Counter`.
    Counting,
    /// `defaultdict`.
    Defaulting,
    /// `deque`.
    Deque,
    /// An exception.
    Error,
    /// Not at all.
    Unknown,
}

/// What is told of an exception, and what is made of that again.
pub(super) fn error_told(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CELL.import(py, "flujo.domain.results", "_write_error")
}

/// See [`error_told`].
pub(super) fn told_error(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CELL.import(py, "flujo.domain.results", "_read_error")
}

/// What other processes know a class by.
#[derive(Debug, Clone)]
pub(super) enum ClassName {
    /// Module and qualified name, which lead back to it.
    Named(Arc<str>, Arc<str>),
    /// Nothing: the number stands for it in this process.
    Local(u64),
}

type Registered = HashMap<(String, String), Py<PyWeakrefReference>>;

static REGISTERED: LazyLock<Mutex<Registered>> = LazyLock::new(Mutex::default);

fn registered() -> std::sync::MutexGuard<'static, Registered> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a class calls itself.
pub(crate) fn own_name(class: &Bound<'_, PyType>) -> PyResult<(String, String)> {
    let py = class.py();
    let module = class.getattr(intern!(py, "__module__"))?.extract()?;
    Ok((module, class.getattr(intern!(py, "__qualname__"))?.extract()?))
}

/// From now on, in what is written of runs and read there, the class is found by its name although no module has it.
pub(crate) fn register(class: &Bound<'_, PyType>) -> PyResult<()> {
    let (name, class) = (
        own_name(class)?,
        PyWeakrefReference::new(class.as_any())?.unbind(),
    );
    let before = registered().insert(name, class);
    drop(before); // outside the lock: dropping a reference may run code
    Ok(())
}

/// Whether the class is found so.
pub(super) fn is_registered(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let name = own_name(class)?;
    Ok(found_by(class.py(), &name).is_some_and(|found| found.is(class)))
}

fn found_by<'py>(py: Python<'py>, name: &(String, String)) -> Option<Bound<'py, PyAny>> {
    let found = registered().get(name).map(|class| class.clone_ref(py));
    found?.bind(py).upgrade()
}

/// What is known of a class.
#[derive(Debug)]
pub(super) struct Known {
    class: Py<PyWeakrefReference>,
    pub(super) form: Form,
    pub(super) name: ClassName,
}

static CLASSES: LazyLock<Mutex<HashMap<usize, Arc<Known>>>> = LazyLock::new(Mutex::default);

/// The size at which entries of dead classes are looked for.
const SWEEP: usize = 4096;

/// What is known of a class.
pub(super) fn of(class: &Bound<'_, PyType>) -> PyResult<Arc<Known>> {
    let (py, address) = (class.py(), class.as_ptr() as usize);
    let found = lock().get(&address).cloned();
    if let Some(known) = found
        && known
            .class
            .bind_borrowed(py)
            .upgrade()
            .is_some_and(|alive| alive.is(class))
    {
        return Ok(known);
    }
    let known = Arc::new(Known {
        class: PyWeakrefReference::new(class.as_any())?.unbind(),
        form: classify(class)?,
        name: name_of(class)?,
    });
    let mut dead: Vec<Arc<Known>> = Vec::new();
    {
        let mut classes = lock();
        if classes.len() >= SWEEP && classes.len().is_power_of_two() {
            classes.retain(|_, known| {
                let alive = known.class.bind_borrowed(py).upgrade().is_some();
                if !alive {
                    dead.push(Arc::clone(known));
                }
                alive
            });
        }
        dead.extend(classes.insert(address, Arc::clone(&known)));
    }
    drop(dead); // outside the lock: dropping a reference may run code
    Ok(known)
}

fn lock() -> std::sync::MutexGuard<'static, HashMap<usize, Arc<Known>>> {
    CLASSES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The class that is known by a module and a qualified name, of a module that is imported: reading a value imports none but
/// those of Flujo, which imports its own when they are first needed.
pub(crate) fn resolve<'py>(
    py: Python<'py>,
    module: &str,
    qualified: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?
        .cast_into::<PyDict>()?;
    let mut found = match modules.get_item(module)? {
        Some(found) => found,
        None if module.starts_with("flujo.") => match py.import(module) {
            Ok(found) => found.into_any(),
            Err(error) if error.is_instance_of::<PyImportError>(py) => return Ok(None),
            Err(error) => return Err(error),
        },
        None => return Ok(None),
    };
    for part in qualified.split('.') {
        match found.getattr_opt(part)? {
            Some(inner) => found = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// The same, or else a class that was registered under this name.
pub(crate) fn resolve_or_registered<'py>(
    py: Python<'py>,
    module: &str,
    qualified: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match resolve(py, module, qualified)? {
        Some(found) => Ok(Some(found)),
        None => Ok(found_by(py, &(module.to_owned(), qualified.to_owned()))),
    }
}

fn name_of(class: &Bound<'_, PyType>) -> PyResult<ClassName> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let py = class.py();
    let text = |name| -> Option<String> { class.getattr(name).ok()?.extract().ok() };
    let module = text(intern!(py, "__module__"));
    let qualified = text(intern!(py, "__qualname__"));
    if let (Some(module), Some(qualified)) = (module, qualified)
        && resolve(py, &module, &qualified)?.is_some_and(|found| found.is(class))
    {
        return Ok(ClassName::Named(module.into(), qualified.into()));
    }
    Ok(ClassName::Local(NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Classes of other packages that the classification needs.
struct Names {
    base_model: Py<PyAny>,
    enum_class: Py<PyAny>,
    flag_class: Py<PyAny>,
    secrets: Py<PyTuple>,
    texts: Py<PyTuple>,
    date_time: Py<PyAny>,
    time: Py<PyAny>,
    time_delta: Py<PyAny>,
    timezone: Py<PyAny>,
    zone_info: Py<PyAny>,
    ordered: Py<PyAny>,
    counter: Py<PyAny>,
    defaulting: Py<PyAny>,
    deque: Py<PyAny>,
}

fn names(py: Python<'_>) -> PyResult<&'static Names> {
    static NAMES: PyOnceLock<Names> = PyOnceLock::new();
    NAMES.get_or_try_init(py, || {
        let load = |module: &str, name: &str| Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind());
        let all = |pairs: &[(&str, &str)]| -> PyResult<Py<PyTuple>> {
            let classes: Vec<_> = pairs
                .iter()
                .map(|(module, name)| load(module, name))
                .collect::<PyResult<_>>()?;
            Ok(PyTuple::new(py, classes)?.unbind())
        };
        Ok(Names {
            base_model: load("pydantic", "BaseModel")?,
            enum_class: load("enum", "Enum")?,
            flag_class: load("enum", "Flag")?,
            secrets: all(&[
                ("pydantic", "Secret"),
                ("pydantic", "SecretStr"),
                ("pydantic", "SecretBytes"),
            ])?,
            texts: all(&[
                ("datetime", "date"),
                ("decimal", "Decimal"),
                ("fractions", "Fraction"),
                ("uuid", "UUID"),
                ("pathlib", "PosixPath"),
                ("pathlib", "WindowsPath"),
                ("pathlib", "PurePosixPath"),
                ("pathlib", "PureWindowsPath"),
            ])?,
            date_time: load("datetime", "datetime")?,
            time: load("datetime", "time")?,
            time_delta: load("datetime", "timedelta")?,
            timezone: load("datetime", "timezone")?,
            zone_info: load("zoneinfo", "ZoneInfo")?,
            ordered: load("collections", "OrderedDict")?,
            counter: load("collections", "Counter")?,
            defaulting: load("collections", "defaultdict")?,
            deque: load("collections", "deque")?,
        })
    })
}

fn classify(class: &Bound<'_, PyType>) -> PyResult<Form> {
    let py = class.py();
    let names = names(py)?;
    let is = |other: &Py<PyAny>| class.is(other.bind(py));
    let mro = class.mro();
    // Through the method resolution order: `issubclass` would run `__subclasshook__`.
    let derives = |base: &Py<PyAny>| mro.contains(base);
    if derives(&names.base_model)? {
        let fields = class
            .getattr(intern!(py, "__pydantic_fields__"))?
            .cast_into::<PyDict>()?;
        return Ok(Form::Model(fields.keys().to_tuple().unbind()));
    }
    for secret in names.secrets.bind(py).iter() {
        if mro.contains(&secret)? {
            return Ok(Form::Secret);
        }
    }
    if class.is_subclass_of::<PyBaseException>()? {
        return Ok(Form::Error);
    }
    if derives(&names.flag_class)? {
        return Ok(Form::Flag);
    }
    if derives(&names.enum_class)? {
        return Ok(Form::Enum);
    }
    if let Ok(fields) = class
        .getattr(intern!(py, "__dict__"))?
        .call_method1(intern!(py, "get"), (intern!(py, "__dataclass_fields__"),))?
        .cast::<PyDict>()
    {
        return dataclass(class, fields);
    }
    if class.is_subclass_of::<PyTuple>()? && class.hasattr(intern!(py, "_fields"))? {
        // A subclass of a named tuple may hold more than its items.
        let plain = class
            .getattr(intern!(py, "__bases__"))?
            .cast_into::<PyTuple>()?
            .get_item(0)?
            .is(py.get_type::<PyTuple>());
        return Ok(if plain { Form::NamedTuple } else { Form::Unknown });
    }
    if names.texts.bind(py).contains(class)? {
        return Ok(Form::Text);
    }
    Ok(if is(&names.date_time) {
        Form::DateTime
    } else if is(&names.time) {
        Form::Time
    } else if is(&names.time_delta) {
        Form::TimeDelta
    } else if is(&names.timezone) {
        Form::Offset
    } else if is(&names.zone_info) {
        Form::Zone
    } else if is(&names.ordered) {
        Form::Ordered
    } else if is(&names.counter) {
        Form::Counting
    } else if is(&names.defaulting) {
        Form::Defaulting
    } else if is(&names.deque) {
        Form::Deque
    } else if class.is(py.get_type::<pyo3::types::PyComplex>()) {
        Form::Complex
    } else if class.is(py.Ellipsis().bind(py).get_type()) {
        Form::Ellipsis
    } else {
        Form::Unknown
    })
}

/// By its fields, when these are all of it: no base adds anything in C, or attributes that are no fields.
fn dataclass(class: &Bound<'_, PyType>, fields: &Bound<'_, PyDict>) -> PyResult<Form> {
    let py = class.py();
    let instances = PyList::empty(py);
    let kinds = py.import("dataclasses")?;
    let field = kinds.getattr("_FIELD")?;
    for (name, described) in fields.iter() {
        // Not those of the class, or of `__init__` alone.
        if described.getattr("_field_type")?.is(&field) {
            instances.append(name)?;
        }
    }
    for base in class.mro().iter() {
        let base = base.cast_into::<PyType>()?;
        let is_heap = base.hasattr(intern!(py, "__module__"))?
            && base.getattr(intern!(py, "__module__"))?.ne("builtins")?;
        if !is_heap && !base.is(py.get_type::<PyAny>()) {
            return Ok(Form::Unknown);
        }
    }
    Ok(Form::Dataclass(instances.to_tuple().unbind()))
}
