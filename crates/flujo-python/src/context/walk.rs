//! Walking two containers side by side. A copy keeps the order of its original and shares what can't change, so most
//! entries are the same objects at the same places: these are passed over without a look-up or a comparison.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::pace::Pace;

/// Entries that are passed over between two looks at the pace.
const STRETCH: usize = 4096;

/// One entry of a dictionary: key and value.
pub(super) type Entry<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// A place in a dictionary. It stays safe to use while the dictionary changes, but may then miss entries.
#[derive(Clone, Copy, Default)]
pub(super) struct Place(ffi::Py_ssize_t);

impl Place {
    /// The entry here; the place is then that of the next one.
    #[allow(unsafe_code)]
    pub(super) fn next<'py>(&mut self, dict: &Bound<'py, PyDict>) -> Option<Entry<'py>> {
        let (mut key, mut value) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the dictionary is alive; any place is allowed, since the callee checks it against the dictionary's
        // present size. Key and value are borrowed, and own references are taken before anything else runs.
        unsafe {
            if ffi::PyDict_Next(dict.as_ptr(), &raw mut self.0, &raw mut key, &raw mut value) == 0 {
                return None;
            }
            Some((
                Bound::from_borrowed_ptr(dict.py(), key),
                Bound::from_borrowed_ptr(dict.py(), value),
            ))
        }
    }
}

/// Passes over the entries that are the very same objects in both dictionaries; gives how many there were. Both places
/// are then at the first entry that isn't, or at an end.
pub(super) fn pass_identical(
    left: &Bound<'_, PyDict>,
    right: &Bound<'_, PyDict>,
    places: &mut (Place, Place),
    pace: &Pace<'_>,
) -> PyResult<usize> {
    let mut passed = 0;
    loop {
        let stretch = identical_stretch(left, right, places);
        pace.spend(left.py(), stretch)?;
        passed += stretch;
        if stretch < STRETCH {
            return Ok(passed);
        }
    }
}

#[allow(unsafe_code)]
fn identical_stretch(
    left: &Bound<'_, PyDict>,
    right: &Bound<'_, PyDict>,
    places: &mut (Place, Place),
) -> usize {
    let none = ptr::null_mut();
    let (mut left_key, mut left_value, mut right_key, mut right_value) = (none, none, none, none);
    for passed in 0..STRETCH {
        let (mut at_left, mut at_right) = *places;
        // SAFETY: as in `Place::next`; nothing runs meanwhile, and pointers are only compared.
        let identical = unsafe {
            ffi::PyDict_Next(
                left.as_ptr(),
                &raw mut at_left.0,
                &raw mut left_key,
                &raw mut left_value,
            ) != 0
                && ffi::PyDict_Next(
                    right.as_ptr(),
                    &raw mut at_right.0,
                    &raw mut right_key,
                    &raw mut right_value,
                ) != 0
                && left_key == right_key
                && left_value == right_value
        };
        if !identical {
            return passed;
        }
        *places = (at_left, at_right);
    }
    STRETCH
}

/// The first index from `start` on at which the lists don't hold the very same object; the shorter length if there is
/// none.
#[allow(unsafe_code)]
pub(super) fn first_different(
    left: &Bound<'_, PyList>,
    right: &Bound<'_, PyList>,
    start: usize,
    pace: &Pace<'_>,
) -> PyResult<usize> {
    let mut index = start;
    loop {
        let shortest = left.len().min(right.len());
        let end = shortest.min(index.saturating_add(STRETCH));
        let began = index;
        // SAFETY: both lists are alive, the index is below both lengths, and nothing runs meanwhile.
        while index < end
            && unsafe {
                ffi::PyList_GET_ITEM(left.as_ptr(), index.cast_signed())
                    == ffi::PyList_GET_ITEM(right.as_ptr(), index.cast_signed())
            }
        {
            index += 1;
        }
        pace.spend(left.py(), index - began)?;
        if index < end || end == shortest {
            return Ok(index);
        }
    }
}
