//! How a value of a given type is isolated: shared as it is, cloned natively, or rebuilt by its own protocol.
//! Decided once per type and remembered by a weak reference to the type, so the table keeps no class alive and a
//! reused address is never taken for the class that lived there before.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference};

/// A table by address. What lives at the address is held, or checked to be alive, by the entry.
pub(super) type ByAddress<T> = HashMap<usize, T, BuildHasherDefault<AddressHasher>>;

/// Spreads an address over a hash: aligned addresses differ in their middle bits only.
#[derive(Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        let mixed = (self.0 ^ address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// How values of one type are isolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Can't change: shared.
    Immutable,
    /// Must not be copied (lock, client of the event loop, iterator, function, module): shared, and documented so.
    Shared,
    /// Exactly `list`.
    List,
    /// Exactly `dict`. Keys are hashable and therefore shared.
    Dict,
    /// Exactly `set`. Elements are hashable and therefore shared.
    Set,
    /// Exactly `tuple`.
    Tuple,
    /// Exactly `bytearray`.
    ByteArray,
    /// A class whose instances are an attribute dictionary and slots, both filled by Python code.
    Instance(Instance),
    /// Rebuilt from `__reduce_ex__`.
    Reduce(Boundary),
    /// Copies itself: `__deepcopy__`.
    DeepCopy,
}

/// What an instance consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) boundary: Boundary,
    pub(super) has_dict: bool,
    pub(super) slots: Slots,
    /// The class refuses assignment, so an instance of immutable values is immutable.
    pub(super) frozen: bool,
}

/// Which slots instances have besides `__dict__`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    None,
    /// Exactly those of pydantic's `BaseModel`.
    Model,
    /// See `slot_names`.
    Named,
}

/// What happens when something inside can't be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boundary {
    /// A container of data (model, dataclass, list subclass): only the part is shared.
    Data,
    /// An object with behaviour of its own (a client with its pool): a half-copied one would be broken, so the whole
    /// object is shared.
    Whole,
}

/// Modules whose objects stand for something outside the data: copying one makes a second lock, not a second value.
const SHARED_MODULES: &[&str] = &[
    "asyncio",
    "threading",
    "_thread",
    "queue",
    "_queue",
    "concurrent",
    "multiprocessing",
    "contextvars",
    "_contextvars",
    "logging",
    "socket",
    "ssl",
    "select",
    "selectors",
    "sqlite3",
    "subprocess",
    "anyio",
    "trio",
    "uvloop",
    "weakref",
];

struct Entry {
    class: Py<PyWeakrefReference>,
    kind: Kind,
}

static KINDS: LazyLock<Mutex<ByAddress<Entry>>> = LazyLock::new(Mutex::default);

/// The size at which entries of dead classes are looked for.
const SWEEP: usize = 4096;

/// Whether the type is one of the immutable ones that most values are. A quick no proves nothing.
#[allow(unsafe_code)]
pub(super) fn plainly_immutable(class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: only addresses of static types are taken.
    unsafe {
        class == &raw mut ffi::PyUnicode_Type
            || class == &raw mut ffi::PyLong_Type
            || class == &raw mut ffi::PyFloat_Type
            || class == &raw mut ffi::PyBool_Type
            || class == ffi::Py_TYPE(ffi::Py_None())
            || class == &raw mut ffi::PyBytes_Type
    }
}

/// The kind of a type where that is known without running any Python code.
#[allow(unsafe_code)]
pub(super) fn known(class: *mut ffi::PyTypeObject) -> Option<Kind> {
    if plainly_immutable(class) {
        return Some(Kind::Immutable);
    }
    for (built_in, kind) in [
        (&raw mut ffi::PyList_Type, Kind::List),
        (&raw mut ffi::PyDict_Type, Kind::Dict),
        (&raw mut ffi::PyTuple_Type, Kind::Tuple),
        (&raw mut ffi::PySet_Type, Kind::Set),
        (&raw mut ffi::PyByteArray_Type, Kind::ByteArray),
    ] {
        if class == built_in {
            return Some(kind);
        }
    }
    let kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
    let entry = kinds.get(&(class as usize))?;
    // SAFETY: the caller holds an object of this type, hence the interpreter.
    let py = unsafe { Python::assume_attached() };
    let alive = entry.class.bind_borrowed(py).upgrade()?;
    (alive.as_ptr() == class.cast()).then_some(entry.kind)
}

/// The kind of the object's type.
#[allow(unsafe_code)]
pub(super) fn of(object: &Bound<'_, PyAny>) -> PyResult<Kind> {
    // SAFETY: the object is alive.
    if let Some(kind) = known(unsafe { ffi::Py_TYPE(object.as_ptr()) }) {
        return Ok(kind);
    }
    let class = object.get_type();
    let kind = classify(&class)?;
    let reference = PyWeakrefReference::new(class.as_any())?.unbind();
    let dead = {
        let mut kinds = KINDS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dead = Vec::new();
        if kinds.len() >= SWEEP && kinds.len().is_power_of_two() {
            let py = object.py();
            let gone: Vec<usize> = kinds
                .iter()
                .filter(|(_, entry)| entry.class.bind_borrowed(py).upgrade().is_none())
                .map(|(address, _)| *address)
                .collect();
            dead.extend(gone.iter().filter_map(|address| kinds.remove(address)));
        }
        dead.extend(kinds.insert(
            class.as_ptr() as usize,
            Entry {
                class: reference,
                kind,
            },
        ));
        dead
    };
    // Outside the lock: dropping a reference may run code.
    drop(dead);
    Ok(kind)
}

/// The standard library's names that the classification needs.
struct Names {
    immutable: Py<PyTuple>,
    shared: Py<PyTuple>,
    containers: Py<PyTuple>,
    base_model: Py<PyType>,
    object: Py<PyAny>,
    dispatch: Py<PyDict>,
    slots_of: Py<PyAny>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

fn names(py: Python<'_>) -> PyResult<&'static Names> {
    NAMES.get_or_try_init(py, || {
        let load = |module: &str, names: &[&str]| -> PyResult<Vec<Bound<'_, PyAny>>> {
            let module = py.import(module)?;
            names.iter().map(|name| module.getattr(*name)).collect()
        };
        let mut immutable = load(
            "builtins",
            &[
                "str", "int", "float", "complex", "bool", "bytes", "range", "slice", "type", "property",
            ],
        )?;
        immutable.push(py.None().bind(py).get_type().into_any());
        immutable.push(py.Ellipsis().bind(py).get_type().into_any());
        immutable.push(py.NotImplemented().bind(py).get_type().into_any());
        immutable.extend(load("datetime", &["date", "time", "timedelta", "tzinfo"])?);
        immutable.extend(load("decimal", &["Decimal"])?);
        immutable.extend(load("fractions", &["Fraction"])?);
        immutable.extend(load("uuid", &["UUID"])?);
        immutable.extend(load("pathlib", &["PurePath"])?);
        immutable.extend(load("enum", &["Enum"])?);
        immutable.extend(load("re", &["Pattern", "Match"])?);
        immutable.extend(load(
            "types",
            &["CodeType", "GenericAlias", "UnionType", "MappingProxyType"],
        )?);
        let shared = load(
            "types",
            &[
                "FunctionType",
                "BuiltinFunctionType",
                "MethodType",
                "ModuleType",
                "GeneratorType",
                "CoroutineType",
                "AsyncGeneratorType",
                "FrameType",
                "TracebackType",
                "WrapperDescriptorType",
                "MethodDescriptorType",
            ],
        )?;
        let mut containers = load(
            "builtins",
            &["list", "dict", "set", "tuple", "frozenset", "bytearray"],
        )?;
        containers.extend(load("collections", &["deque", "UserDict", "UserList"])?);
        containers.extend(load("types", &["SimpleNamespace"])?);
        let copyreg = py.import("copyreg")?;
        Ok(Names {
            immutable: PyTuple::new(py, immutable)?.unbind(),
            shared: PyTuple::new(py, shared)?.unbind(),
            containers: PyTuple::new(py, containers)?.unbind(),
            base_model: py
                .import("pydantic")?
                .getattr("BaseModel")?
                .cast_into::<PyType>()?
                .unbind(),
            object: py.import("builtins")?.getattr("object")?.unbind(),
            dispatch: copyreg.getattr("dispatch_table")?.cast_into::<PyDict>()?.unbind(),
            slots_of: copyreg.getattr("_slotnames")?.unbind(),
        })
    })
}

/// pydantic's `BaseModel`.
pub(super) fn base_model(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    Ok(names(py)?.base_model.bind(py))
}

/// Names of the slots that instances of the class have besides `__dict__` and `__weakref__`, mangled.
pub(super) fn slot_names<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyList>>> {
    let found = names(class.py())?.slots_of.bind(class.py()).call1((class,))?;
    if found.is_none() {
        Ok(None)
    } else {
        Ok(Some(found.cast_into::<PyList>()?))
    }
}

/// The reducer registered with `copyreg` for the class.
pub(super) fn registered_reducer<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyAny>>> {
    names(class.py())?.dispatch.bind(class.py()).get_item(class)
}

fn subclass_of_any(class: &Bound<'_, PyType>, bases: &Bound<'_, PyTuple>) -> PyResult<bool> {
    for base in bases.iter() {
        // Through the method resolution order: `issubclass` would run `__subclasshook__`.
        if class.mro().contains(&base)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn classify(class: &Bound<'_, PyType>) -> PyResult<Kind> {
    let py = class.py();
    let names = names(py)?;
    let module = class
        .getattr("__module__")
        .and_then(|module| module.extract::<String>())
        .unwrap_or_default();
    let package = module.split('.').next().unwrap_or_default();
    if class.is(names.object.bind(py))
        || subclass_of_any(class, names.immutable.bind(py))? && !adds_state(class)?
    {
        return Ok(Kind::Immutable);
    }
    if SHARED_MODULES.contains(&package)
        || subclass_of_any(class, names.shared.bind(py))?
        || defines(class, "__next__")?
        || defines(class, "__anext__")?
    {
        return Ok(Kind::Shared);
    }
    if class.is(py.get_type::<pyo3::types::PyFrozenSet>()) {
        return Ok(Kind::Immutable);
    }
    let is_model = class.mro().contains(names.base_model.bind(py))?;
    let is_dataclass = class.hasattr("__dataclass_fields__")?;
    if let Some(copier) = looked_up(class, "__deepcopy__")? {
        let from_pydantic = is_model && copier.is(&names.base_model.bind(py).getattr("__deepcopy__")?);
        if !from_pydantic {
            return Ok(Kind::DeepCopy);
        }
    }
    let is_container = subclass_of_any(class, names.containers.bind(py))?;
    let boundary = if is_model || is_dataclass || is_container {
        Boundary::Data
    } else {
        Boundary::Whole
    };
    if is_container || !(is_model || default_state(class)?) || !laid_out_by_python(class)? {
        return Ok(Kind::Reduce(boundary));
    }
    Ok(Kind::Instance(Instance {
        boundary,
        has_dict: class.getattr("__dictoffset__")?.extract::<isize>()? != 0,
        slots: slots_of(class, is_model)?,
        frozen: frozen(class, is_model)?,
    }))
}

/// A subclass of an immutable type that carries attributes of its own isn't immutable.
fn adds_state(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let enumeration = py.import("enum")?.getattr("Enum")?;
    let metaclass = py.get_type::<PyType>();
    if class.mro().contains(&enumeration)? || class.mro().contains(&metaclass)? {
        return Ok(false);
    }
    let flags = class.getattr("__flags__")?.extract::<u64>()?;
    let heap_type = flags & (1 << 9) != 0;
    Ok(heap_type && class.getattr("__dictoffset__")?.extract::<isize>()? != 0)
}

fn slots_of(class: &Bound<'_, PyType>, is_model: bool) -> PyResult<Slots> {
    let count = slot_names(class)?.map_or(0, |names| names.len());
    Ok(match count {
        0 => Slots::None,
        3 if is_model => Slots::Model,
        _ => Slots::Named,
    })
}

fn frozen(class: &Bound<'_, PyType>, is_model: bool) -> PyResult<bool> {
    if is_model {
        let frozen = class
            .getattr("model_config")?
            .call_method1("get", ("frozen", false))?
            .is_truthy()?;
        return Ok(frozen && class.getattr("__private_attributes__")?.is_empty()?);
    }
    match class.getattr_opt("__dataclass_params__")? {
        Some(parameters) => parameters.getattr("frozen")?.is_truthy(),
        None => Ok(false),
    }
}

/// Whether copying means copying attributes, with no protocol of the class's own.
fn default_state(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let object = names(class.py())?.object.bind(class.py());
    for name in ["__reduce__", "__reduce_ex__", "__getstate__"] {
        if !looked_up(class, name)?
            .is_some_and(|found| object.getattr(name).is_ok_and(|plain| found.is(&plain)))
        {
            return Ok(false);
        }
    }
    for name in ["__setstate__", "__getnewargs__", "__getnewargs_ex__"] {
        if looked_up(class, name)?.is_some() {
            return Ok(false);
        }
    }
    Ok(registered_reducer(class)?.is_none())
}

/// Whether instances hold nothing that only C code can see: the same arithmetic as `object.__reduce_ex__`.
fn laid_out_by_python(class: &Bound<'_, PyType>) -> PyResult<bool> {
    const MANAGED_DICT: u64 = 1 << 4;
    let number = |name: &str| class.getattr(name).and_then(|value| value.extract::<isize>());
    if number("__itemsize__")? != 0 {
        return Ok(false);
    }
    let pointer = isize::try_from(size_of::<usize>()).unwrap_or(8);
    let object = names(class.py())?.object.bind(class.py());
    let mut expected = object.getattr("__basicsize__")?.extract::<isize>()?;
    let managed = class.getattr("__flags__")?.extract::<u64>()? & MANAGED_DICT != 0;
    if number("__dictoffset__")? != 0 && !managed {
        expected += pointer;
    }
    if number("__weakrefoffset__")? > 0 {
        expected += pointer;
    }
    let slots = slot_names(class)?.map_or(0, |names| names.len());
    expected += pointer * isize::try_from(slots).unwrap_or(0);
    let metaclass_made = class.getattr("__flags__")?.extract::<u64>()? & (1 << 9) != 0;
    Ok(metaclass_made && number("__basicsize__")? <= expected)
}

fn defines(class: &Bound<'_, PyType>, name: &str) -> PyResult<bool> {
    Ok(looked_up(class, name)?.is_some())
}

/// What the class's method resolution order holds under the name, past its metaclass.
fn looked_up<'py>(class: &Bound<'py, PyType>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    for base in class.mro().iter() {
        let namespace = base.getattr("__dict__")?;
        if namespace.contains(name)? {
            return Ok(Some(namespace.get_item(name)?));
        }
    }
    Ok(None)
}
