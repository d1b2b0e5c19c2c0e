//! The native deep clone. Immutable values are shared, what can't be copied is shared, aliases inside one value stay
//! aliases. A container that only its parent refers to can't be met twice, so only the others are remembered: most
//! data is cloned without one hash look-up.
//!
//! Keys and set elements are hashable, hence treated as immutable and shared.

mod protocol;

use pyo3::exceptions::PyRecursionError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyList, PyString, PyTuple, PyType};

use super::class::{self, Part};
use super::kind::{self, Boundary, ByAddress, Instance, Kind, Slots};
use super::pace::{CONTAINER, Pace};
use super::{raw, state};

pub(super) use protocol::reduce;

/// Containers nested deeper than this are refused: the walk uses the thread's stack.
const MAX_DEPTH: u32 = 1500;

/// Sizes in machine words: of an empty list or tuple, dictionary and set, of an entry in a table that is two thirds full,
/// of an object with an attribute dictionary.
const LIST_WORDS: usize = 7;
const DICT_WORDS: usize = 8;
const SET_WORDS: usize = 27;
const ENTRY_WORDS: usize = 4;
const INSTANCE_WORDS: usize = 14;

/// A deep clone of the value; the value itself where nothing in it can change or nothing in it can be copied.
///
/// Errors: `RecursionError` past 1,500 levels; what ends the work according to its pace; `MemoryError`. An error from a
/// class's own copy protocol isn't raised: what can't be copied is shared.
pub(super) fn clone<'py>(value: &Bound<'py, PyAny>, pace: &Pace<'_>) -> PyResult<Bound<'py, PyAny>> {
    measured(value, pace).map(|(copy, _)| copy)
}

/// As `clone`; also tells roughly how many bytes the new containers take.
pub(super) fn measured<'py>(
    value: &Bound<'py, PyAny>,
    pace: &Pace<'_>,
) -> PyResult<(Bound<'py, PyAny>, usize)> {
    if immutable(value) {
        return Ok((value.clone(), 0));
    }
    let _paused = raw::CollectorPause::begin(value.py());
    let mut cloner = Cloner::new(value.py(), pace);
    match cloner.clone(value, 0) {
        Ok(copy) => Ok((copy, cloner.words * size_of::<usize>())),
        Err(Failure::Uncopyable) => Ok((value.clone(), 0)),
        Err(Failure::Raised(error)) => Err(error),
    }
}

/// A deep clone that shares nothing with the value but what can't change, functions and modules; `None` where something in
/// it can't be copied: a lock, a client, an iterator, what is nested too deep.
pub(super) fn isolated<'py>(
    value: &Bound<'py, PyAny>,
    pace: &Pace<'_>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if immutable(value) {
        return Ok(Some(value.clone()));
    }
    let _paused = raw::CollectorPause::begin(value.py());
    let mut cloner = Cloner::new(value.py(), pace);
    // As inside an object that is copied whole or not at all.
    cloner.inside_whole = true;
    match cloner.clone(value, 0) {
        Ok(copy) => Ok(Some(copy)),
        Err(Failure::Uncopyable) => Ok(None),
        Err(Failure::Raised(error)) if error.is_instance_of::<PyRecursionError>(value.py()) => Ok(None),
        Err(Failure::Raised(error)) => Err(error),
    }
}

/// Whether the value is of one of the immutable types that most values are.
#[allow(unsafe_code)]
pub(super) fn immutable(value: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the value is alive.
    kind::plainly_immutable(unsafe { ffi::Py_TYPE(value.as_ptr()) })
}

enum Failure {
    /// Something inside can't be copied; whoever encloses it decides what is shared.
    Uncopyable,
    Raised(PyErr),
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<pyo3::CastError<'_, '_>> for Failure {
    fn from(error: pyo3::CastError<'_, '_>) -> Self {
        Self::Raised(error.into())
    }
}

impl From<pyo3::CastIntoError<'_>> for Failure {
    fn from(error: pyo3::CastIntoError<'_>) -> Self {
        Self::Raised(error.into())
    }
}

type Cloned<'py> = Result<Bound<'py, PyAny>, Failure>;

struct Cloner<'p, 'py> {
    py: Python<'py>,
    pace: &'p Pace<'p>,
    /// Originals by address, each held by its entry, and their clones.
    memo: ByAddress<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    /// Addresses in the order in which they were remembered, so that an abandoned object's can be forgotten.
    order: Vec<usize>,
    /// Inside an object that is copied whole or not at all.
    inside_whole: bool,
    depth: u32,
    /// What the new containers take, in machine words.
    words: usize,
    /// What `__deepcopy__` methods of this value share.
    deepcopy_memo: Option<Bound<'py, PyDict>>,
}

impl<'p, 'py> Cloner<'p, 'py> {
    fn new(py: Python<'py>, pace: &'p Pace<'p>) -> Self {
        Self {
            py,
            pace,
            memo: ByAddress::default(),
            order: Vec::new(),
            inside_whole: false,
            depth: 0,
            words: 0,
            deepcopy_memo: None,
        }
    }

    /// `expected`: how many references the value has when nothing but its one parent and this walk refer to it.
    fn clone(&mut self, value: &Bound<'py, PyAny>, expected: isize) -> Cloned<'py> {
        let kind = kind::of(value)?;
        match kind {
            Kind::Immutable => return Ok(value.clone()),
            Kind::Shared => return self.shared(value),
            _ => {}
        }
        let unique = raw::references(value) <= expected;
        if !unique && let Some((_, cloned)) = self.memo.get(&(value.as_ptr() as usize)) {
            return Ok(cloned.clone());
        }
        self.pace.spend(self.py, CONTAINER)?;
        if self.depth >= MAX_DEPTH {
            return Err(Failure::Raised(PyRecursionError::new_err(format!(
                "a context value is nested deeper than {MAX_DEPTH} levels and can't be isolated; flatten it or keep it \
                 outside the context"
            ))));
        }
        self.depth += 1;
        let cloned = self.clone_container(value, kind, unique);
        self.depth -= 1;
        cloned
    }

    fn clone_container(&mut self, value: &Bound<'py, PyAny>, kind: Kind, unique: bool) -> Cloned<'py> {
        match kind {
            Kind::Immutable | Kind::Shared => Ok(value.clone()),
            Kind::List => {
                let list = value.cast::<PyList>()?;
                self.pace.spend(self.py, list.len())?;
                let copy = list.get_slice(0, usize::MAX >> 1);
                self.words += LIST_WORDS + copy.len();
                self.remember(value, copy.as_any(), unique);
                self.fill_list(&copy)?;
                Ok(copy.into_any())
            }
            Kind::Dict => {
                let dict = value.cast::<PyDict>()?;
                self.pace.spend(self.py, dict.len())?;
                let copy = dict.copy()?;
                self.words += DICT_WORDS + ENTRY_WORDS * copy.len();
                self.remember(value, copy.as_any(), unique);
                self.fill_dict(&copy)?;
                Ok(copy.into_any())
            }
            Kind::Set => {
                let copy = raw::copy_set(value)?;
                self.words += SET_WORDS + ENTRY_WORDS * copy.len()?;
                self.remember(value, &copy, unique);
                Ok(copy)
            }
            Kind::ByteArray => {
                let copy = PyByteArray::from(value)?.into_any();
                self.words += LIST_WORDS + copy.len()? / size_of::<usize>();
                self.remember(value, &copy, unique);
                Ok(copy)
            }
            Kind::Tuple => self.clone_tuple(value, unique),
            Kind::Instance(shape) => self.within(shape.boundary, value, |cloner| {
                cloner.clone_instance(value, shape, unique)
            }),
            Kind::Reduce(boundary) => self.within(boundary, value, |cloner| cloner.rebuild(value, unique)),
            Kind::DeepCopy => self.within(Boundary::Whole, value, |cloner| {
                cloner.copy_by_itself(value, unique)
            }),
        }
    }

    fn shared(&self, value: &Bound<'py, PyAny>) -> Cloned<'py> {
        // A function or module doesn't make its holder uncopyable (as with `copy.deepcopy`); a lock or an iterator does.
        if self.inside_whole && !value.is_callable() && !value.is_instance_of::<pyo3::types::PyModule>() {
            Err(Failure::Uncopyable)
        } else {
            Ok(value.clone())
        }
    }

    /// Runs the copy of one object; the outermost object that must be copied whole is shared if that fails.
    fn within(
        &mut self,
        boundary: Boundary,
        value: &Bound<'py, PyAny>,
        copy: impl FnOnce(&mut Self) -> Cloned<'py>,
    ) -> Cloned<'py> {
        let outer = self.inside_whole;
        let remembered = self.order.len();
        let depth = self.depth;
        self.inside_whole = outer || boundary == Boundary::Whole;
        let cloned = copy(self);
        self.inside_whole = outer;
        match cloned {
            Err(Failure::Uncopyable) if !outer => {
                self.depth = depth;
                for address in self.order.drain(remembered..) {
                    self.memo.remove(&address);
                }
                self.remember(value, value, false);
                Ok(value.clone())
            }
            other => other,
        }
    }

    fn remember(&mut self, value: &Bound<'py, PyAny>, cloned: &Bound<'py, PyAny>, unique: bool) {
        if !unique {
            let address = value.as_ptr() as usize;
            self.memo.insert(address, (value.clone(), cloned.clone()));
            self.order.push(address);
        }
    }

    /// Replaces what isn't immutable in a fresh shallow copy. Each element is referred to by the original, by the copy
    /// and by this loop.
    #[allow(unsafe_code)]
    fn fill_list(&mut self, copy: &Bound<'py, PyList>) -> Result<bool, Failure> {
        let mut changed = false;
        for index in 0..copy.len() {
            // SAFETY: nothing else can reach the copy, so the index is in range and the item alive.
            let item = unsafe {
                let item = ffi::PyList_GET_ITEM(copy.as_ptr(), index.cast_signed());
                if kind::plainly_immutable(ffi::Py_TYPE(item)) {
                    continue;
                }
                Bound::from_borrowed_ptr(self.py, item)
            };
            let cloned = self.clone(&item, 3)?;
            if !cloned.is(&item) {
                copy.set_item(index, cloned)?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// As `fill_list`, for the values of a dictionary.
    #[allow(unsafe_code)]
    fn fill_dict(&mut self, copy: &Bound<'py, PyDict>) -> Result<bool, Failure> {
        let mut changed = false;
        let mut position: ffi::Py_ssize_t = 0;
        loop {
            let mut key = std::ptr::null_mut();
            let mut value = std::ptr::null_mut();
            // SAFETY: nothing else can reach the copy, and only values of present keys are replaced meanwhile, which
            // `PyDict_Next` allows; key and value are borrowed from the copy.
            let (key, value) = unsafe {
                if ffi::PyDict_Next(copy.as_ptr(), &raw mut position, &raw mut key, &raw mut value) == 0 {
                    return Ok(changed);
                }
                if kind::plainly_immutable(ffi::Py_TYPE(value)) {
                    continue;
                }
                (
                    Bound::from_borrowed_ptr(self.py, key),
                    Bound::from_borrowed_ptr(self.py, value),
                )
            };
            let cloned = self.clone(&value, 3)?;
            if !cloned.is(&value) {
                copy.set_item(key, cloned)?;
                changed = true;
            }
        }
    }

    fn clone_tuple(&mut self, value: &Bound<'py, PyAny>, unique: bool) -> Cloned<'py> {
        let tuple = value.cast::<PyTuple>()?;
        let items = tuple.to_list();
        if !self.fill_list(&items)? {
            return Ok(value.clone());
        }
        // A list inside may refer back to this tuple: then the tuple has been cloned on the way.
        if !unique && let Some((_, cloned)) = self.memo.get(&(value.as_ptr() as usize)) {
            return Ok(cloned.clone());
        }
        let cloned = items.to_tuple().into_any();
        self.words += LIST_WORDS + items.len();
        self.remember(value, &cloned, unique);
        Ok(cloned)
    }

    fn clone_instance(&mut self, value: &Bound<'py, PyAny>, shape: Instance, unique: bool) -> Cloned<'py> {
        let class = class::model_of(&value.get_type())?;
        let cloned = raw::bare_instance(&class)?;
        self.words += INSTANCE_WORDS;
        self.remember(value, &cloned, unique);
        let mut changed = false;
        let mut empty = true;
        if shape.has_dict {
            // A context view inside a value hands over its own isolated attributes.
            let own = if class.is(value.get_type()) {
                raw::instance_dict(value)?
            } else {
                value
                    .getattr(intern!(self.py, "__dict__"))?
                    .cast_into::<PyDict>()?
            };
            let copy = own.copy()?;
            self.words += ENTRY_WORDS * copy.len();
            empty = copy.is_empty();
            changed = self.fill_dict(&copy)?;
            raw::set_instance_dict(&cloned, &copy)?;
        }
        match shape.slots {
            Slots::None => {}
            Slots::Model => changed |= self.clone_parts(value, &cloned)?,
            Slots::Named => changed |= self.clone_slots(value, &cloned, &class)?,
        }
        empty &= shape.slots == Slots::None;
        if empty && !shape.has_dict || shape.frozen && !changed {
            if !unique {
                self.memo
                    .insert(value.as_ptr() as usize, (value.clone(), value.clone()));
            }
            return Ok(value.clone());
        }
        Ok(cloned)
    }

    fn clone_parts(
        &mut self,
        value: &Bound<'py, PyAny>,
        cloned: &Bound<'py, PyAny>,
    ) -> Result<bool, Failure> {
        let is_view = class::is_view_class(&value.get_type())?;
        let mut changed = false;
        for part in Part::ALL {
            let slot = part.slot(self.py)?;
            let item = if is_view {
                state::part(value, part)?
            } else {
                raw::slot(slot, value)?
            };
            let Some(item) = item else { continue };
            if immutable(&item) {
                raw::set_slot(slot, cloned, Some(&item))?;
                continue;
            }
            // The original's slot and this function.
            let copy = self.clone(&item, 2)?;
            // pydantic's record of which fields were set is no state that a frozen model could lose.
            changed |= !copy.is(&item) && part != Part::FieldsSet;
            raw::set_slot(slot, cloned, Some(&copy))?;
        }
        Ok(changed)
    }

    fn clone_slots(
        &mut self,
        value: &Bound<'py, PyAny>,
        cloned: &Bound<'py, PyAny>,
        class: &Bound<'py, PyType>,
    ) -> Result<bool, Failure> {
        let mut changed = false;
        let Some(names) = kind::slot_names(class)? else {
            return Ok(false);
        };
        for name in names.iter() {
            let name = name.cast_into::<PyString>()?;
            let Some(item) = raw::get_attribute(value, &name)? else {
                continue;
            };
            // The original's slot and this function.
            let copy = if immutable(&item) {
                item.clone()
            } else {
                self.clone(&item, 2)?
            };
            // pydantic's record of which fields were set is no state that a frozen model could lose.
            changed |= !copy.is(&item) && Part::of_key(&name) != Some(Part::FieldsSet);
            raw::set_attribute(cloned, &name, Some(&copy))?;
        }
        Ok(changed)
    }
}
