//! Large values apart from what they are in: as blobs, named by what they are. One that a run's log has and its snapshot has
//! again is written once.
//!
//! What refers to blobs begins with a byte that nothing else begins with, how many blobs it has (four bytes, the last one
//! first), and for each one where it belongs in what follows (eight bytes) and its name (32).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;

use flujo_core::store::{Blob, BlobId, RunStore, StoreError, StoreFuture, StoredRun};

/// Texts and bytes that are as large as this, 64 KiB, or larger are blobs.
pub const LARGE: usize = 64 * 1024;
/// What refers to blobs begins with it: `MessagePack` never has it, nor has it any version of a form.
const MARK: u8 = 0xc1;
const AT: usize = 8;
const NAME: usize = 32;

/// Bytes on their way into a store, large parts apart.
#[derive(Debug, Default)]
pub(crate) struct Parted {
    rest: Vec<u8>,
    /// Where in the rest each one belongs.
    blobs: Vec<(usize, Blob)>,
}

/// What most records have room in.
const USUAL: usize = 512;

impl Parted {
    /// Empty, with room for what is usual.
    pub(crate) fn with_room() -> Self {
        Self {
            rest: Vec::with_capacity(USUAL),
            blobs: Vec::new(),
        }
    }

    /// How many bytes they are together.
    pub(crate) fn len(&self) -> usize {
        let blobs = self.blobs.iter().map(|(_, blob)| blob.body.len());
        self.rest.len() + blobs.sum::<usize>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.blobs.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts others behind.
    pub(crate) fn append(&mut self, more: Self) {
        if self.is_empty() {
            *self = more;
            return;
        }
        let before = self.rest.len();
        self.rest.extend_from_slice(&more.rest);
        self.blobs
            .extend(more.blobs.into_iter().map(|(at, blob)| (before + at, blob)));
    }

    /// What is small, to put something behind it that holds nothing large.
    pub(crate) fn small(&mut self) -> &mut Vec<u8> {
        &mut self.rest
    }

    /// What is written in its place, with the blobs that it refers to.
    pub(crate) fn into_body(self) -> (Arc<[u8]>, Vec<Blob>) {
        if self.blobs.is_empty() {
            return (self.rest.into(), Vec::new());
        }
        let mut body = Vec::with_capacity(self.rest.len() + 5 + self.blobs.len() * (AT + NAME));
        body.push(MARK);
        body.extend_from_slice(&u32::try_from(self.blobs.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (at, blob) in &self.blobs {
            body.extend_from_slice(&(*at as u64).to_le_bytes());
            body.extend_from_slice(&blob.id.0);
        }
        body.extend_from_slice(&self.rest);
        (
            body.into(),
            self.blobs.into_iter().map(|(_, blob)| blob).collect(),
        )
    }
}

impl Write for Parted {
    /// What is written with one call is one part: serialisers write the content of a text or of bytes so.
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() >= LARGE {
            self.blobs.push((self.rest.len(), Blob::of(part.into())));
        } else {
            self.rest.extend_from_slice(part);
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stored body that refers to blobs: where they belong, and what is around them.
struct Referring<'b> {
    blobs: Vec<(usize, BlobId)>,
    rest: &'b [u8],
}

/// `None` when the body refers to none, or is cut short: whoever reads it says so.
fn referring(body: &[u8]) -> Option<Referring<'_>> {
    let rest = body.strip_prefix(&[MARK])?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut blobs = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (at, behind) = rest.split_first_chunk::<AT>()?;
        let (name, behind) = behind.split_first_chunk::<NAME>()?;
        blobs.push((usize::try_from(u64::from_le_bytes(*at)).ok()?, BlobId(*name)));
        rest = behind;
    }
    let in_order = blobs.is_sorted_by_key(|(at, _)| *at);
    let inside = blobs.last().is_none_or(|(at, _)| *at <= rest.len());
    (in_order && inside).then_some(Referring { blobs, rest })
}

/// A run with its contents, the blobs that they refer to in their places.
///
/// # Errors
/// As [`RunStore::load`] and [`RunStore::blob`].
pub fn load(store: Arc<dyn RunStore>, run: Arc<str>) -> StoreFuture<StoredRun> {
    Box::pin(async move { Ok(loaded(&*store, run).await?.0) })
}

/// The same, with the names of the blobs.
///
/// # Errors
/// As [`load`].
pub async fn loaded(
    store: &dyn RunStore,
    run: Arc<str>,
) -> Result<(StoredRun, BTreeSet<BlobId>), StoreError> {
    let mut seen = None;
    loop {
        let mut stored = store.load(Arc::clone(&run)).await?;
        let place = (stored.through, stored.info.last_record);
        match whole(store, &mut stored).await {
            Ok(blobs) => return Ok((stored, blobs)),
            // Whoever runs it has put a snapshot in its place meanwhile, and freed what it referred to.
            Err(_) if seen != Some(place) => seen = Some(place),
            Err(error) => return Err(error),
        }
    }
}

async fn whole(store: &dyn RunStore, stored: &mut StoredRun) -> Result<BTreeSet<BlobId>, StoreError> {
    let mut names = BTreeSet::new();
    let run = Arc::clone(&stored.info.id);
    let bodies = stored.records.iter_mut().map(|record| &mut record.body);
    for body in std::iter::once(&mut stored.snapshot).chain(bodies) {
        let Some(Referring { blobs, rest }) = referring(body) else {
            continue;
        };
        let (mut whole, mut from) = (Vec::with_capacity(rest.len()), 0);
        for (at, name) in blobs {
            whole.extend_from_slice(&rest[from..at]);
            whole.extend_from_slice(&store.blob(Arc::clone(&run), name).await?);
            (_, from) = (names.insert(name), at);
        }
        whole.extend_from_slice(&rest[from..]);
        *body = whole.into();
    }
    Ok(names)
}
