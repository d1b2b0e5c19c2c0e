//! Checksums of what is stored: they tell damage, and bytes that stand in another's place. Against those who know them they
//! are no help: that is what [`Sealed`](crate::Sealed) is for.

#[cfg(test)]
mod tests;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a body is. Each has sums of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Definition,
    Snapshot,
    Record,
    Blob,
    Message,
}

/// The sum of a body at its place: of this run, with this number. XXH3 of it, with that of its place as the seed.
pub(crate) fn of(kind: Kind, run: &str, place: &[u8], body: &[u8]) -> i64 {
    let parts = [run.as_bytes(), place, body];
    let sum = parts
        .iter()
        .fold(kind as u64, |seed, part| xxh3_64_with_seed(part, seed));
    sum.cast_signed()
}

/// The same of what has a number.
pub(crate) fn numbered(kind: Kind, run: &str, number: u64, body: &[u8]) -> i64 {
    of(kind, run, &number.to_le_bytes(), body)
}

/// Whether a body stands with this sum at its place as it was written there.
pub(crate) fn fits(sum: i64, kind: Kind, run: &str, place: &[u8], body: &[u8]) -> bool {
    sum == of(kind, run, place, body) || sum == earlier(kind, run, place, body)
}

/// The same of what has a number.
pub(crate) fn fits_numbered(sum: i64, kind: Kind, run: &str, number: u64, body: &[u8]) -> bool {
    fits(sum, kind, run, &number.to_le_bytes(), body)
}

/// The sum as earlier versions made it, by BLAKE3.
pub(crate) fn earlier(kind: Kind, run: &str, place: &[u8], body: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind as u8]);
    for part in [run.as_bytes(), place] {
        // With its length, so that no two places give the same bytes.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(body);
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    i64::from_le_bytes(sum)
}
