//! What a second tier holds: results with what they cost, and what they were seen to depend on. Each is marked with its
//! digest, so that what was damaged on the way is never taken for a result.

use std::collections::BTreeSet;
use std::sync::Arc;

use flujo_core::cache::{CacheKey, KeyBuilder, ReadSet};
use flujo_core::usage::{Cost, Usage};
use pyo3::prelude::*;

use super::read::{Unreadable, read};
use super::write::{Purpose, Unwritable, write};

/// Says what follows, and in which layout.
const MARK: &[u8; 4] = b"FPR1";

/// A result as stored bytes.
pub(crate) fn result(output: &Bound<'_, PyAny>, usage: Usage) -> Result<Arc<[u8]>, Unwritable> {
    let output = write(output, Purpose::Store)?;
    let mut content = Vec::with_capacity(output.bytes.len() + 25);
    content.extend_from_slice(&usage.cost.nanos().to_le_bytes());
    content.extend_from_slice(&usage.tokens.to_le_bytes());
    content.extend_from_slice(&usage.requests.to_le_bytes());
    content.push(u8::from(usage.unpriced));
    content.extend_from_slice(&output.bytes);
    Ok(sealed(&content))
}

/// The result that was stored.
pub(crate) fn read_result<'py>(
    py: Python<'py>,
    bytes: &[u8],
) -> Result<(Bound<'py, PyAny>, Usage), Unreadable> {
    let content = opened(bytes)?;
    let (cost, rest) = eight(content)?;
    let (tokens, rest) = eight(rest)?;
    let (requests, rest) = eight(rest)?;
    let (unpriced, output) = rest.split_first().ok_or(Unreadable::Damaged)?;
    let usage = Usage {
        cost: Cost::from_nanos(i64::from_le_bytes(cost)).ok_or(Unreadable::Damaged)?,
        tokens: u64::from_le_bytes(tokens),
        requests: u64::from_le_bytes(requests),
        unpriced: *unpriced != 0,
    };
    Ok((read(py, output)?, usage))
}

/// Where the sets of what results of a step and input depend on are stored.
pub(crate) fn sets_key(primary: CacheKey) -> CacheKey {
    let mut key = KeyBuilder::new("what was read");
    key.key(primary);
    key.finish()
}

/// Those sets as stored bytes.
pub(crate) fn sets(sets: &[ReadSet]) -> Arc<[u8]> {
    let mut content = Vec::new();
    for set in sets {
        match set {
            ReadSet::Whole => content.push(1),
            ReadSet::Fields(names) => {
                content.push(0);
                content.extend_from_slice(&(names.len() as u64).to_le_bytes());
                for name in names {
                    content.extend_from_slice(&(name.len() as u64).to_le_bytes());
                    content.extend_from_slice(name.as_bytes());
                }
            }
        }
    }
    sealed(&content)
}

/// The sets that were stored.
pub(crate) fn read_sets(bytes: &[u8]) -> Result<Vec<ReadSet>, Unreadable> {
    let mut content = opened(bytes)?;
    let mut sets = Vec::new();
    while let Some((kind, rest)) = content.split_first() {
        content = rest;
        if *kind == 1 {
            sets.push(ReadSet::Whole);
            continue;
        }
        let (count, rest) = eight(content)?;
        content = rest;
        let mut names = BTreeSet::new();
        for _ in 0..u64::from_le_bytes(count) {
            let (length, rest) = eight(content)?;
            let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| Unreadable::Damaged)?;
            let (name, rest) = rest.split_at_checked(length).ok_or(Unreadable::Damaged)?;
            content = rest;
            names.insert(Arc::from(
                std::str::from_utf8(name).map_err(|_| Unreadable::Damaged)?,
            ));
        }
        sets.push(ReadSet::Fields(names));
    }
    Ok(sets)
}

fn eight(bytes: &[u8]) -> Result<([u8; 8], &[u8]), Unreadable> {
    let (first, rest) = bytes.split_first_chunk::<8>().ok_or(Unreadable::Damaged)?;
    Ok((*first, rest))
}

fn digest(content: &[u8]) -> [u8; 16] {
    let mut digest = KeyBuilder::new("stored");
    digest.bytes(content);
    digest.finish().0.to_le_bytes()
}

fn sealed(content: &[u8]) -> Arc<[u8]> {
    let mut bytes = Vec::with_capacity(MARK.len() + 16 + content.len());
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&digest(content));
    bytes.extend_from_slice(content);
    bytes.into()
}

fn opened(bytes: &[u8]) -> Result<&[u8], Unreadable> {
    let rest = bytes.strip_prefix(MARK).ok_or(Unreadable::Damaged)?;
    let (mark, content) = rest.split_first_chunk::<16>().ok_or(Unreadable::Damaged)?;
    if *mark == digest(content) {
        Ok(content)
    } else {
        Err(Unreadable::Damaged)
    }
}
