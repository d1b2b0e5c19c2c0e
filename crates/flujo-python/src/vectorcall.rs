//! Python calls that `PyO3` has no safe form for: by keyword without a dictionary, coroutines by `PyIter_Send`, and
//! instances without `__init__`.
#![allow(unsafe_code)]

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

/// What a coroutine did when it was driven on.
pub(crate) enum Sent<'py> {
    Returned(Bound<'py, PyAny>),
    Yielded(Bound<'py, PyAny>),
}

/// Calls `target` with the first `positional` arguments by position and the rest by the given names.
pub(crate) fn call<'py>(
    target: &Bound<'py, PyAny>,
    arguments: &[Bound<'py, PyAny>],
    positional: usize,
    names: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `Bound` is a pointer to the object and nothing else (`repr(transparent)`), so the slice is an array of
    // borrowed references that live for the whole call; the names are a tuple of as many strings as there are arguments
    // after the positional ones, which is what made `arguments`. The result is a new reference or NULL with an error.
    unsafe {
        let pointers = arguments.as_ptr().cast::<*mut ffi::PyObject>();
        let names = names.map_or(std::ptr::null_mut(), pyo3::Bound::as_ptr);
        let result = ffi::PyObject_Vectorcall(target.as_ptr(), pointers, positional, names);
        Bound::from_owned_ptr_or_err(target.py(), result)
    }
}

/// Drives a coroutine or iterator on with `None`.
#[inline]
pub(crate) fn send<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Sent<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: the object is a live coroutine or iterator; `result` is written with a new reference unless an error is
    // set, and what the function returns says which.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) {
            ffi::PySendResult::PYGEN_RETURN => Ok(Sent::Returned(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_NEXT => Ok(Sent::Yielded(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
        }
    }
}

/// Whether the object is a coroutine of an `async def` function and can be driven as it is.
#[inline]
pub(crate) fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: only reads the type of a live object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// An instance of a class that has no `__new__` of its own, without running `__init__`.
pub(crate) fn bare_instance<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let empty = PyTuple::empty(py);
    // SAFETY: `object.__new__` with the class and an empty tuple; it checks that the class is a heap type it may make.
    unsafe {
        let base = &raw mut ffi::PyBaseObject_Type;
        match (*base).tp_new {
            Some(new) => {
                let instance = new(class.as_ptr().cast(), empty.as_ptr(), std::ptr::null_mut());
                Bound::from_owned_ptr_or_err(py, instance)
            }
            None => class.call0(),
        }
    }
}

/// Sets an attribute past the class's own `__setattr__`.
pub(crate) fn set_plainly(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: all three are live objects, and the name is a string.
    let status = unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value.as_ptr()) };
    if status == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(object.py()))
    }
}

/// A class whose instances are made bare, with some of their slots filled: without a look-up for any of them.
pub(crate) struct SlottedClass {
    class: Py<PyType>,
    /// Where the slots are in an instance.
    offsets: Vec<isize>,
}

impl SlottedClass {
    /// The class with those of its slots that are to be filled.
    pub(crate) fn new<'py>(
        class: &Bound<'py, PyType>,
        slots: impl IntoIterator<Item = Bound<'py, PyString>>,
    ) -> PyResult<Self> {
        let offset = |name: Bound<'py, PyString>| {
            let slot = class.getattr(&name)?;
            // SAFETY: what is of the type of member descriptors is one, and that its member lives as long as its class
            // does; that the class's instances have it is checked.
            let offset = unsafe {
                let is_member = slot.get_type_ptr() == &raw mut ffi::PyMemberDescr_Type;
                let member = slot.as_ptr().cast::<ffi::PyMemberDescrObject>();
                (is_member
                    && ffi::PyType_IsSubtype(class.as_type_ptr(), (*member).d_common.d_type) != 0
                    && (*(*member).d_member).type_code == ffi::Py_T_OBJECT_EX)
                    .then(|| (*(*member).d_member).offset)
            };
            offset.ok_or_else(|| PyTypeError::new_err(format!("{name} is no slot of {class}")))
        };
        Ok(Self {
            class: class.clone().unbind(),
            offsets: slots.into_iter().map(offset).collect::<PyResult<_>>()?,
        })
    }

    /// An instance with these values in the slots, in the order in which those were given.
    pub(crate) fn instance<'py>(
        &self,
        py: Python<'py>,
        values: impl IntoIterator<Item = Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let instance = bare_instance(self.class.bind(py))?;
        for (offset, value) in self.offsets.iter().zip(values) {
            // SAFETY: the offset is that of a slot of this very class, which holds a reference or null; nobody else
            // knows the instance yet, so that it is null, and it takes over the value's reference.
            unsafe {
                let slot = instance
                    .as_ptr()
                    .byte_offset(*offset)
                    .cast::<*mut ffi::PyObject>();
                slot.write(value.into_ptr());
            }
        }
        Ok(instance)
    }
}

/// Sets a context variable; gives the token that takes it back.
pub(crate) fn set_variable<'py>(
    variable: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: both are live objects; what isn't a context variable is refused with an exception. The result is a new
    // reference or NULL with one.
    unsafe {
        let token = ffi::PyContextVar_Set(variable.as_ptr(), value.as_ptr());
        Bound::from_owned_ptr_or_err(variable.py(), token)
    }
}

/// Gives a bare instance these attributes, past any override of its class.
pub(crate) fn give_attributes(instance: &Bound<'_, PyAny>, attributes: &Bound<'_, PyDict>) -> PyResult<()> {
    // `Py_TPFLAGS_INLINE_VALUES` (Python 3.13): there an instance given a dictionary goes on to find its inline
    // attributes, so these are filled instead.
    const INLINE_VALUES: std::ffi::c_ulong = 1 << 2;
    let py = instance.py();
    // SAFETY: both objects are alive; the setter takes its own reference, the getter gives a new one.
    unsafe {
        if ffi::PyType_GetFlags(ffi::Py_TYPE(instance.as_ptr())) & INLINE_VALUES == 0 {
            let none = std::ptr::null_mut();
            return match ffi::PyObject_GenericSetDict(instance.as_ptr(), attributes.as_ptr(), none) {
                0 => Ok(()),
                _ => Err(PyErr::fetch(py)),
            };
        }
    }
    attributes
        .iter()
        .try_for_each(|(name, value)| set_plainly(instance, &name, &value))
}
