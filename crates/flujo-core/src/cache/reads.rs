//! What cached steps were seen to read of the context, as HTTP's `Vary` says what a response depends on: of a step and an
//! input several sets of fields may be known, since what is read may depend on what was read before.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use serde::{Deserialize, Serialize};

use super::plain::least_recently_used;
use super::{CacheKey, KeyBuilder, Uncached};

/// A step that reads more fields than these one by one is to declare its scope.
pub const MOST_FIELDS: usize = 16;
/// So many sets are known of one step and input; the oldest is forgotten for another one.
const MOST_SETS: usize = 8;

/// What was read of a context.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadSet {
    /// These fields; perhaps none.
    Fields(BTreeSet<Arc<str>>),
    /// All of it at once.
    Whole,
}

impl Default for ReadSet {
    fn default() -> Self {
        Self::Fields(BTreeSet::new())
    }
}

impl ReadSet {
    /// One more field was read.
    pub fn read(&mut self, field: &str) {
        if let Self::Fields(fields) = self
            && !fields.contains(field)
        {
            fields.insert(Arc::from(field));
        }
    }

    /// All was read at once.
    pub fn read_whole(&mut self) {
        *self = Self::Whole;
    }
}

/// A context as keys see it.
pub trait Fields {
    /// The digest of a field, another one when there is no such field; `None` when it has no plain form.
    fn digest(&self, field: &str) -> Option<CacheKey>;

    /// The digest of all fields; `None` when one has no plain form.
    fn whole(&self) -> Option<CacheKey>;

    /// The digest of what makes it likely that two steps read the same of their contexts, while nobody knows yet what they
    /// read: of all fields but those that tell runs apart.
    fn alike(&self) -> Option<CacheKey> {
        self.whole()
    }
}

/// The key of a result that depends on the fields in `reads` beside what `primary` stands for.
pub(super) fn secondary(
    primary: CacheKey,
    reads: &ReadSet,
    fields: &dyn Fields,
) -> Result<CacheKey, Uncached> {
    let mut key = KeyBuilder::new("reads");
    key.key(primary);
    match reads {
        ReadSet::Fields(names) if names.len() > MOST_FIELDS => return Err(Uncached::TooManyFields),
        ReadSet::Fields(names) => {
            for name in names {
                let digest = fields.digest(name).ok_or(Uncached::Field)?;
                key.text(name).key(digest);
            }
        }
        ReadSet::Whole => {
            let digest = fields.whole().ok_or(Uncached::Field)?;
            key.number(u64::MAX).key(digest);
        }
    }
    Ok(key.finish())
}

/// What makes two of those that want a result at the same time likely to want the same one: equal values of all fields
/// that were ever read, or of all there are where nothing is known. What can't be compared is taken for equal.
pub(super) fn shared(primary: CacheKey, sets: &[ReadSet], fields: &dyn Fields) -> CacheKey {
    let mut key = KeyBuilder::new("flight");
    key.key(primary);
    let mut names = BTreeSet::new();
    let mut whole = false;
    for set in sets {
        match set {
            ReadSet::Fields(read) => names.extend(read),
            ReadSet::Whole => whole = true,
        }
    }
    if sets.is_empty() {
        key.key(fields.alike().unwrap_or(primary));
    } else if whole {
        key.key(fields.whole().unwrap_or(primary));
    } else {
        for name in names {
            key.key(fields.digest(name).unwrap_or(primary));
        }
    }
    key.finish()
}

/// The sets known of each step and input, for as many of these as results are kept.
#[derive(Debug)]
pub(super) struct SeenReads(Option<LruCache<CacheKey, Arc<[ReadSet]>>>);

impl SeenReads {
    pub(super) fn new(capacity: usize) -> Self {
        Self(NonZeroUsize::new(capacity).map(least_recently_used))
    }

    /// The sets known, those seen last first.
    pub(super) fn of(&mut self, primary: CacheKey) -> Arc<[ReadSet]> {
        let known = self.0.as_mut().and_then(|seen| seen.get(&primary));
        known.map_or_else(|| Arc::from([]), Arc::clone)
    }

    /// A set was seen. Gives all that are known now, when that makes a difference.
    pub(super) fn note(&mut self, primary: CacheKey, reads: &ReadSet) -> Option<Arc<[ReadSet]>> {
        let seen = self.0.as_mut()?;
        let known = seen.get(&primary).cloned().unwrap_or_else(|| Arc::from([]));
        if known.first() == Some(reads) {
            return None;
        }
        let is_new = !known.contains(reads);
        let others = known.iter().filter(|set| *set != reads).take(MOST_SETS - 1);
        let sets: Arc<[ReadSet]> = std::iter::once(reads).chain(others).cloned().collect();
        seen.put(primary, Arc::clone(&sets));
        is_new.then_some(sets)
    }

    pub(super) fn clear(&mut self) {
        if let Some(seen) = &mut self.0 {
            seen.clear();
        }
    }
}
