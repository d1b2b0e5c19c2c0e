//! Whether anything outside a value still refers to something inside it: the collector's own arithmetic (references
//! an object has minus references found inside), over the mutable parts of one value.
//!
//! It decides at a commit whether a value moves into the context or is cloned once more, so that a reference that a
//! step kept (in a global, in its output, in a task that runs on) can't write into later state.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;

use super::kind::{self, Kind};

/// What became of the walk through a value.
pub(super) struct Answer {
    /// Whether somebody holds the value or a mutable part of it.
    pub(super) held: bool,
    /// Containers that were met.
    pub(super) containers: usize,
}

/// Whether somebody holds the value or a mutable part of it. `own`: references to the value itself that the caller
/// accounts for; `most`: containers that are looked through at most, since the walk can't be interrupted. Where it meets
/// a type that it doesn't know yet, or too much, the answer is yes: the caller then clones.
///
/// No Python code runs meanwhile. Weak references aren't holders.
pub(super) fn held_elsewhere(value: &Bound<'_, PyAny>, own: isize, most: usize) -> Answer {
    let mut walk = Walk {
        found: HashMap::new(),
        pending: Vec::new(),
        containers: 0,
        most,
        unknown: false,
    };
    walk.meet(value.as_ptr());
    if let Some(found) = walk.found.get_mut(&value.as_ptr()) {
        *found += own - 1;
    }
    while !walk.unknown
        && let Some(object) = walk.pending.pop()
    {
        walk.enter(object);
    }
    let held = walk.unknown
        || walk
            .found
            .iter()
            .any(|(object, found)| references(*object) > *found && may_change(*object));
    Answer {
        held,
        containers: walk.containers,
    }
}

struct Walk {
    /// Objects with more than one reference, and how many of these were found inside the value.
    found: HashMap<*mut ffi::PyObject, isize>,
    pending: Vec<*mut ffi::PyObject>,
    containers: usize,
    most: usize,
    /// Something can't be told.
    unknown: bool,
}

impl Walk {
    /// One reference to the object was found.
    #[allow(unsafe_code)]
    fn meet(&mut self, object: *mut ffi::PyObject) {
        // SAFETY: the object is referred to by a living one, and no Python code runs during the walk.
        let class = unsafe { ffi::Py_TYPE(object) };
        if kind::plainly_immutable(class) || is_class(object) {
            return;
        }
        match kind::known(class) {
            None => self.unknown = true,
            Some(Kind::Immutable | Kind::Shared) => {}
            Some(_) if references(object) == 1 => self.enter_later(object),
            Some(_) => {
                let found = self.found.entry(object).or_insert(0);
                *found += 1;
                if *found == 1 {
                    self.enter_later(object);
                }
            }
        }
    }

    fn enter_later(&mut self, object: *mut ffi::PyObject) {
        self.containers += 1;
        self.unknown |= self.containers > self.most;
        self.pending.push(object);
    }

    /// Meets everything that the object refers to.
    #[allow(unsafe_code)]
    fn enter(&mut self, object: *mut ffi::PyObject) {
        // SAFETY: as in `meet`; `tp_traverse` only calls the visitor, with the argument given here, which outlives it.
        unsafe {
            if let Some(traverse) = (*ffi::Py_TYPE(object)).tp_traverse {
                traverse(object, visit, std::ptr::from_mut(self).cast());
            }
        }
    }
}

#[allow(unsafe_code)]
extern "C" fn visit(object: *mut ffi::PyObject, walk: *mut c_void) -> c_int {
    // SAFETY: `enter` passes its own exclusive reference, and the traversal calls nothing else with it.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    walk.meet(object);
    // Anything but zero ends the traversal.
    c_int::from(walk.unknown)
}

#[allow(unsafe_code)]
fn references(object: *mut ffi::PyObject) -> isize {
    // SAFETY: see `Walk::meet`.
    unsafe { ffi::Py_REFCNT(object) }
}

#[allow(unsafe_code)]
fn is_class(object: *mut ffi::PyObject) -> bool {
    // SAFETY: see `Walk::meet`.
    unsafe { ffi::PyType_Check(object) != 0 }
}

/// A tuple of immutable values may be held by anyone (constants of a function are).
#[allow(unsafe_code)]
fn may_change(object: *mut ffi::PyObject) -> bool {
    // SAFETY: see `Walk::meet`; the index stays within the tuple's own size.
    unsafe {
        match kind::known(ffi::Py_TYPE(object)) {
            Some(Kind::Immutable | Kind::Shared) => false,
            Some(Kind::Tuple) => (0..ffi::PyTuple_GET_SIZE(object))
                .any(|index| may_change(ffi::PyTuple_GET_ITEM(object, index))),
            _ => true,
        }
    }
}
