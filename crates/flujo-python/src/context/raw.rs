//! The few interpreter calls that `PyO3` has no safe name for: an instance's own dictionary and slots past any
//! override, a bare instance of a class, reference counts. Nothing here knows what a context is.

use std::ptr;

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

/// The object's own `__dict__`, whatever `type(object).__dict__["__dict__"]` says.
#[allow(unsafe_code)]
pub(super) fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: the object is alive; the call returns a new reference or null with an exception set.
    let dict = unsafe {
        let raw = ffi::PyObject_GenericGetDict(object.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), raw)?
    };
    Ok(dict.cast_into::<PyDict>()?)
}

/// Gives the object these attributes, past any override; what the dictionary itself becomes isn't specified. An object
/// with inline attributes (Python 3.13) must be a bare one.
#[allow(unsafe_code)]
pub(super) fn set_instance_dict(object: &Bound<'_, PyAny>, dict: &Bound<'_, PyDict>) -> PyResult<()> {
    // `Py_TPFLAGS_INLINE_VALUES`. There `PyObject_GenericSetDict` leaves the inline attributes valid, and attribute
    // access goes on to find them instead of the new dictionary's.
    const INLINE_VALUES: std::ffi::c_ulong = 1 << 2;
    // SAFETY: both objects are alive; the callee takes its own reference to the dictionary.
    let failed = unsafe {
        if ffi::PyType_GetFlags(ffi::Py_TYPE(object.as_ptr())) & INLINE_VALUES != 0 {
            return instance_dict(object)?.update(dict.as_mapping());
        }
        ffi::PyObject_GenericSetDict(object.as_ptr(), dict.as_ptr(), ptr::null_mut()) != 0
    };
    if failed {
        Err(PyErr::fetch(object.py()))
    } else {
        Ok(())
    }
}

/// `object.__setattr__(object, name, value)`, or `object.__delattr__` where the value is `None`.
#[allow(unsafe_code)]
pub(super) fn set_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let raw = value.map_or(ptr::null_mut(), Bound::as_ptr);
    // SAFETY: all objects are alive; a null value asks for deletion.
    let failed = unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), raw) } != 0;
    if failed {
        Err(PyErr::fetch(object.py()))
    } else {
        Ok(())
    }
}

/// `object.__getattribute__(object, name)`; `None` where there is no such attribute.
#[allow(unsafe_code)]
pub(super) fn get_attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: both objects are alive; the call returns a new reference or null with an exception set.
    let found = unsafe {
        let raw = ffi::PyObject_GenericGetAttr(object.as_ptr(), name.as_ptr());
        Bound::from_owned_ptr_or_err(object.py(), raw)
    };
    absent_as_none(object.py(), found)
}

/// A bare instance of a class whose instances are laid out by Python code alone: no `__new__`, no `__init__`.
#[allow(unsafe_code)]
pub(super) fn bare_instance<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let arguments = pyo3::types::PyTuple::empty(py);
    // SAFETY: `object.__new__` allocates through the class's own allocator; the callers made sure that the class adds
    // nothing in C to what it inherits from `object`. Class and arguments are alive.
    unsafe {
        let Some(new) = ffi::PyBaseObject_Type.tp_new else {
            return Err(PyTypeError::new_err("object has no __new__"));
        };
        Bound::from_owned_ptr_or_err(py, new(class.as_type_ptr(), arguments.as_ptr(), ptr::null_mut()))
    }
}

/// `type.__new__(metaclass, name, bases, namespace)` without the metaclass's own `__new__` and `__init__`.
#[allow(unsafe_code)]
pub(super) fn bare_class<'py>(
    metaclass: &Bound<'py, PyType>,
    arguments: &Bound<'py, pyo3::types::PyTuple>,
) -> PyResult<Bound<'py, PyType>> {
    let py = metaclass.py();
    // SAFETY: `type.__new__` checks its arguments itself; metaclass and arguments are alive.
    let class = unsafe {
        let Some(new) = ffi::PyType_Type.tp_new else {
            return Err(PyTypeError::new_err("type has no __new__"));
        };
        Bound::from_owned_ptr_or_err(
            py,
            new(metaclass.as_type_ptr(), arguments.as_ptr(), ptr::null_mut()),
        )?
    };
    Ok(class.cast_into::<PyType>()?)
}

/// A class attribute past any `__getattribute__` and `__getattr__` of its metaclass.
#[allow(unsafe_code)]
pub(super) fn class_attribute<'py>(
    class: &Bound<'py, PyType>,
    name: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: both objects are alive; the getter returns a new reference or null with an exception set.
    let found = unsafe {
        let Some(get) = ffi::PyType_Type.tp_getattro else {
            return Err(PyTypeError::new_err("type has no __getattribute__"));
        };
        Bound::from_owned_ptr_or_err(class.py(), get(class.as_ptr(), name.as_ptr()))
    };
    absent_as_none(class.py(), found)
}

/// Sets a class attribute past any `__setattr__` of its metaclass.
#[allow(unsafe_code)]
pub(super) fn set_class_attribute(
    class: &Bound<'_, PyType>,
    name: &Bound<'_, PyString>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: all objects are alive; `type`'s own setter checks that the class may be written.
    let failed = unsafe {
        let Some(set) = ffi::PyType_Type.tp_setattro else {
            return Err(PyTypeError::new_err("type has no __setattr__"));
        };
        set(class.as_ptr(), name.as_ptr(), value.as_ptr())
    } != 0;
    if failed {
        Err(PyErr::fetch(class.py()))
    } else {
        Ok(())
    }
}

/// What a slot descriptor (`__slots__` entry) finds on the object; `None` while the slot is empty.
#[allow(unsafe_code)]
pub(super) fn slot<'py>(
    descriptor: &Bound<'py, PyAny>,
    object: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    // SAFETY: the descriptor is a member descriptor, which checks the object's type itself and returns a new reference
    // or null with an exception set.
    let found = unsafe {
        let Some(get) = (*ffi::Py_TYPE(descriptor.as_ptr())).tp_descr_get else {
            return Err(PyTypeError::new_err("not a descriptor"));
        };
        let raw = get(
            descriptor.as_ptr(),
            object.as_ptr(),
            ffi::Py_TYPE(object.as_ptr()).cast(),
        );
        Bound::from_owned_ptr_or_err(object.py(), raw)
    };
    absent_as_none(object.py(), found)
}

/// Fills a slot, or empties it where the value is `None`.
#[allow(unsafe_code)]
pub(super) fn set_slot(
    descriptor: &Bound<'_, PyAny>,
    object: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let raw = value.map_or(ptr::null_mut(), Bound::as_ptr);
    // SAFETY: as in `slot`; a null value asks for deletion.
    let failed = unsafe {
        let Some(set) = (*ffi::Py_TYPE(descriptor.as_ptr())).tp_descr_set else {
            return Err(PyTypeError::new_err("not a data descriptor"));
        };
        set(descriptor.as_ptr(), object.as_ptr(), raw)
    } != 0;
    if failed {
        Err(PyErr::fetch(object.py()))
    } else {
        Ok(())
    }
}

/// A set of the same elements; hashes aren't computed again.
#[allow(unsafe_code)]
pub(super) fn copy_set<'py>(set: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the set is alive; the call returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(set.py(), ffi::PySet_New(set.as_ptr())) }
}

/// Keeps the collector from running by itself while many containers are made and none becomes garbage: it would walk
/// all of them again and again, which takes longer than making them.
pub(super) struct CollectorPause {
    was_enabled: bool,
}

impl CollectorPause {
    #[allow(unsafe_code)]
    pub(super) fn begin(_py: Python<'_>) -> Self {
        // SAFETY: only sets a flag; the caller is attached to the interpreter.
        let was_enabled = unsafe { ffi::PyGC_Disable() } != 0;
        Self { was_enabled }
    }
}

impl Drop for CollectorPause {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: as in `begin`; it is dropped by who made it, who is attached.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// How many references the object has.
#[allow(unsafe_code)]
pub(super) fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the object is alive.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

fn absent_as_none<'py>(
    py: Python<'py>,
    found: PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyAttributeError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}
