//! Whether two values are the same state: same types, same contents, no user code's idea of equality. `1`, `1.0` and
//! `True` differ. When in doubt the answer is no, which costs a write and loses nothing.

use std::collections::{HashMap, HashSet};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyDict, PyFloat, PyList, PyString, PyTuple};

use super::class::Part;
use super::clone::{immutable, reduce};
use super::kind::{self, Instance, Kind, Slots};
use super::pace::{CONTAINER, Pace};
use super::walk::{self, Place};
use super::{class, raw, state};

const MAX_DEPTH: u32 = 1000;

/// Whether both values are the same state.
pub(super) fn same(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>, pace: &Pace<'_>) -> PyResult<bool> {
    if left.is(right) {
        return Ok(true);
    }
    Comparison {
        assumed: HashMap::new(),
        depth: 0,
        pace,
    }
    .same(left, right)
}

struct Comparison<'p> {
    /// Pairs of objects with several holders that are being or have been compared, held by their entry: an
    /// alias or a cycle meets them again.
    assumed: HashMap<(usize, usize), (Py<PyAny>, Py<PyAny>)>,
    depth: u32,
    pace: &'p Pace<'p>,
}

#[derive(Clone, Copy)]
enum Order {
    Matters,
    IsIrrelevant,
}

impl Comparison<'_> {
    fn same(&mut self, left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<bool> {
        if left.is(right) {
            return Ok(true);
        }
        if immutable(left) && immutable(right) {
            return Ok(left.get_type().is(right.get_type()) && same_immutable(left, right)?);
        }
        let (left_class, right_class) = (left.get_type(), right.get_type());
        if !left_class.is(&right_class) && !class::model_of(&left_class)?.is(class::model_of(&right_class)?) {
            return Ok(false);
        }
        let kind = kind::of(left)?;
        if kind == Kind::Immutable {
            return same_immutable(left, right);
        }
        self.pace.spend(left.py(), CONTAINER)?;
        // Two: the parent and this function's reference.
        if raw::references(left) > 2 {
            let pair = (left.as_ptr() as usize, right.as_ptr() as usize);
            if self
                .assumed
                .insert(pair, (left.clone().unbind(), right.clone().unbind()))
                .is_some()
            {
                return Ok(true);
            }
        }
        if self.depth >= MAX_DEPTH {
            return Ok(false);
        }
        self.depth += 1;
        let same = self.same_container(left, right, kind);
        self.depth -= 1;
        same
    }

    fn same_container(
        &mut self,
        left: &Bound<'_, PyAny>,
        right: &Bound<'_, PyAny>,
        kind: Kind,
    ) -> PyResult<bool> {
        match kind {
            Kind::List => self.same_list(left.cast()?, right.cast()?),
            Kind::Tuple => self.same_list(
                &left.cast::<PyTuple>()?.to_list(),
                &right.cast::<PyTuple>()?.to_list(),
            ),
            Kind::Dict => self.same_dict(left.cast()?, right.cast()?, Order::Matters),
            Kind::Set => same_set(left, right),
            Kind::ByteArray => left.eq(right),
            Kind::Instance(shape) => self.same_instance(left, right, shape),
            Kind::Reduce(_) | Kind::DeepCopy => self.same_reduced(left, right),
            Kind::Immutable | Kind::Shared => Ok(false),
        }
    }

    fn same_list(&mut self, left: &Bound<'_, PyList>, right: &Bound<'_, PyList>) -> PyResult<bool> {
        if left.len() != right.len() {
            return Ok(false);
        }
        let mut index = 0;
        loop {
            index = walk::first_different(left, right, index, self.pace)?;
            // Code that runs during the walk may have shortened one of them.
            if index >= left.len() || index >= right.len() {
                return Ok(left.len() == right.len());
            }
            let (item, other) = (left.get_item(index)?, right.get_item(index)?);
            self.pace.spend(left.py(), 1)?;
            if !self.same(&item, &other)? {
                return Ok(false);
            }
            index += 1;
        }
    }

    fn same_dict(
        &mut self,
        left: &Bound<'_, PyDict>,
        right: &Bound<'_, PyDict>,
        order: Order,
    ) -> PyResult<bool> {
        if left.len() != right.len() {
            return Ok(false);
        }
        let mut places = (Place::default(), Place::default());
        loop {
            walk::pass_identical(left, right, &mut places, self.pace)?;
            let rest = places.0;
            let (entry, other) = (places.0.next(left), places.1.next(right));
            let (Some((key, value)), Some((other_key, other_value))) = (&entry, &other) else {
                return Ok(entry.is_none() && other.is_none());
            };
            self.pace.spend(left.py(), 1)?;
            if !key.is(other_key) && !self.same(key, other_key)? {
                return match order {
                    Order::Matters => Ok(false),
                    Order::IsIrrelevant => self.same_entries(left, rest, right),
                };
            }
            if !self.same(value, other_value)? {
                return Ok(false);
            }
        }
    }

    /// Whether every entry of `left` from the place on has its like somewhere in `right`.
    fn same_entries(
        &mut self,
        left: &Bound<'_, PyDict>,
        mut rest: Place,
        right: &Bound<'_, PyDict>,
    ) -> PyResult<bool> {
        while let Some((key, value)) = rest.next(left) {
            self.pace.spend(left.py(), CONTAINER)?;
            match right.get_item(key)? {
                Some(other) if self.same(&value, &other)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn same_instance(
        &mut self,
        left: &Bound<'_, PyAny>,
        right: &Bound<'_, PyAny>,
        shape: Instance,
    ) -> PyResult<bool> {
        if shape.has_dict && !self.same_dict(&attributes(left)?, &attributes(right)?, Order::IsIrrelevant)? {
            return Ok(false);
        }
        match shape.slots {
            Slots::None => return Ok(true),
            Slots::Model => return self.same_parts(left, right),
            Slots::Named => {}
        }
        let Some(names) = kind::slot_names(&class::model_of(&left.get_type())?)? else {
            return Ok(true);
        };
        for name in names.iter() {
            let name = name.cast_into::<PyString>()?;
            let (left, right) = (
                raw::get_attribute(left, &name)?,
                raw::get_attribute(right, &name)?,
            );
            if !self.same_if_any(left.as_ref(), right.as_ref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compares what two models have besides their fields.
    fn same_parts(&mut self, left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<bool> {
        for part_of in Part::ALL {
            let (left, right) = (part(left, part_of)?, part(right, part_of)?);
            if !self.same_if_any(left.as_ref(), right.as_ref())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_if_any(
        &mut self,
        left: Option<&Bound<'_, PyAny>>,
        right: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        match (left, right) {
            (Some(left), Some(right)) => self.same(left, right),
            (None, None) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Compares what both say about how to rebuild them.
    fn same_reduced(&mut self, left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (Ok(Some(left)), Ok(Some(right))) = (reduce(left), reduce(right)) else {
            return Ok(false);
        };
        if left.len() != right.len() {
            return Ok(false);
        }
        for (index, (left, right)) in left.iter().zip(right.iter()).enumerate() {
            let equal = if (3..=4).contains(&index) && !left.is_none() && !right.is_none() {
                let listed = |parts: &Bound<'_, PyAny>| -> PyResult<Vec<Py<PyAny>>> {
                    parts.try_iter()?.map(|part| part.map(Bound::unbind)).collect()
                };
                let py = left.py();
                self.same_list(
                    &PyList::new(py, listed(&left)?)?,
                    &PyList::new(py, listed(&right)?)?,
                )?
            } else {
                self.same(&left, &right)?
            };
            if !equal {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An object's attribute dictionary; a view's with all in it.
fn attributes<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    if class::is_view_class(&object.get_type())? {
        state::all_attributes(object)
    } else {
        raw::instance_dict(object)
    }
}

fn part<'py>(model: &Bound<'py, PyAny>, part: Part) -> PyResult<Option<Bound<'py, PyAny>>> {
    if class::is_view_class(&model.get_type())? {
        state::part(model, part)
    } else {
        raw::slot(part.slot(model.py())?, model)
    }
}

#[allow(unsafe_code)]
fn same_immutable(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let (Ok(left), Ok(right)) = (left.cast_exact::<PyFloat>(), right.cast_exact::<PyFloat>()) {
        return Ok(left.value().to_bits() == right.value().to_bits());
    }
    // SAFETY: the value is alive.
    let plain = kind::plainly_immutable(unsafe { ffi::Py_TYPE(left.as_ptr()) });
    if !left.eq(right).unwrap_or(false) {
        return Ok(false);
    }
    // Decimal("1.0") equals Decimal("1.00"), but isn't the same value.
    Ok(plain || left.repr()?.as_any().eq(right.repr()?)?)
}

/// Same elements, also by type: `{1}` and `{True}` are equal, but not the same.
fn same_set(left: &Bound<'_, PyAny>, right: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !left.eq(right).unwrap_or(false) {
        return Ok(false);
    }
    // Texts that are equal are the same, and most sets hold nothing else.
    let texts = |set: &Bound<'_, PyAny>| -> PyResult<bool> {
        for item in set.try_iter()? {
            if !item?.is_exact_instance_of::<PyString>() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    if texts(left)? && texts(right)? {
        return Ok(true);
    }
    let elements = |set: &Bound<'_, PyAny>| -> PyResult<HashSet<(usize, usize)>> {
        set.try_iter()?
            .map(|item| {
                item.map(|item| {
                    (
                        item.get_type().as_ptr() as usize,
                        item.hash().unwrap_or(0).cast_unsigned(),
                    )
                })
            })
            .collect()
    };
    Ok(elements(left)? == elements(right)?)
}
