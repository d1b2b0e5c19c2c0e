//! Checksums of what is stored: they tell damage, and bytes that stand in another's place.

/// What a body is. Each has sums of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Definition,
    Snapshot,
    Record,
    Blob,
    Message,
}

/// The sum of a body at its place: of this run, with this number.
pub(crate) fn of(kind: Kind, run: &str, place: &[u8], body: &[u8]) -> i64 {
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

/// The same of what has a number.
pub(crate) fn numbered(kind: Kind, run: &str, number: u64, body: &[u8]) -> i64 {
    of(kind, run, &number.to_le_bytes(), body)
}
