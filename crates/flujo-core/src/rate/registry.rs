//! The rate limits of a process by their names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Bucket, RateLimit, RateLimitError};
use crate::machine::Time;

/// All buckets of a process, or of whatever shares a clock. One that nobody uses is kept as long as what it has counted
/// matters, so that runners may come and go.
#[derive(Debug, Default)]
pub struct Registry(Mutex<BTreeMap<Arc<str>, Arc<Bucket>>>);

impl Registry {
    /// An empty one.
    pub const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// The buckets of these limits, each name once, in the order of their names.
    ///
    /// # Errors
    /// [`RateLimitError`] when a limit can't be kept, or somebody uses another limit of the same name.
    pub fn buckets<'a>(
        &self,
        limits: impl IntoIterator<Item = &'a RateLimit>,
        now: Time,
    ) -> Result<Arc<[Arc<Bucket>]>, RateLimitError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_idle(now));
        let mut found: BTreeMap<Arc<str>, Arc<Bucket>> = BTreeMap::new();
        for limit in limits {
            let limit = limit.clone().checked()?;
            let used = found.get(&limit.name).or_else(|| {
                let bucket = known.get(&limit.name)?;
                (bucket.limit() == &limit || Arc::strong_count(bucket) > 1).then_some(bucket)
            });
            let bucket = match used {
                Some(bucket) if bucket.limit() == &limit => Arc::clone(bucket),
                Some(bucket) => {
                    return Err(RateLimitError::Conflict {
                        name: Arc::clone(&limit.name),
                        known: bucket.limit().described(),
                        wanted: limit.described(),
                    });
                }
                None => {
                    let bucket = Arc::new(Bucket::new(limit));
                    known.insert(Arc::clone(&bucket.limit().name), Arc::clone(&bucket));
                    bucket
                }
            };
            found.insert(Arc::clone(&bucket.limit().name), bucket);
        }
        Ok(found.into_values().collect())
    }
}
