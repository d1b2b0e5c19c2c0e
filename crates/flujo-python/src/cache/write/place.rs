//! Where in a value that is which has no form.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::{Done, Unwritable};

/// What stands before a place, and behind it.
const AT: &str = "at ";
const BEHIND: &str = ": ";

/// Keys of dictionaries longer than this aren't shown, in bytes.
const LONGEST_KEY: usize = 60;

/// The place that a refusal names, `[3]['name'].field`, and the reason alone; an empty place stands for the value itself.
pub(crate) fn placed(refusal: &str) -> (&str, &str) {
    refusal
        .strip_prefix(AT)
        .and_then(|rest| rest.split_once(BEHIND))
        .unwrap_or(("", refusal))
}

fn within(done: Done, part: impl FnOnce() -> String) -> Done {
    done.map_err(|unwritable| match unwritable {
        Unwritable::Refused(refusal) => {
            let (place, reason) = placed(&refusal);
            Unwritable::Refused(format!("{AT}{}{place}{BEHIND}{reason}", part()))
        }
        raised @ Unwritable::Raised(_) => raised,
    })
}

pub(super) fn at_index(index: usize, done: Done) -> Done {
    within(done, || format!("[{index}]"))
}

pub(super) fn at_name(name: &Bound<'_, PyAny>, done: Done) -> Done {
    within(done, || format!(".{name}"))
}

/// A key is named where it looks like a name: others may be content.
pub(super) fn at_key(key: &Bound<'_, PyAny>, done: Done) -> Done {
    within(done, || {
        let text = key
            .cast_exact::<PyString>()
            .ok()
            .and_then(|text| text.to_str().ok());
        match text {
            Some(name)
                if name.len() <= LONGEST_KEY
                    && name.chars().all(|c| c.is_alphanumeric() || "_-. ".contains(c)) =>
            {
                format!("['{name}']")
            }
            _ => "[…]".to_owned(),
        }
    })
}
