//! Power cuts: what the disk may hold when the machine ends at any moment.
//!
//! With the write-ahead log nothing but the log is written between two checkpoints, and all of a transaction is in it
//! before it is told. So the disk holds the file, and the log up to where it was last synced, followed by any part of
//! what came later, or by rubbish.

use std::fs;
use std::path::Path;

use flujo_store::Sqlite;

use super::runs::{enlist, have, whole, write};

/// A disk as it is at one moment.
fn disk(folder: &Path, file: &[u8], log: &[u8]) -> std::path::PathBuf {
    fs::create_dir_all(folder).unwrap();
    let at = folder.join("runs.db");
    fs::write(&at, file).unwrap();
    fs::write(folder.join("runs.db-wal"), log).unwrap();
    at
}

#[test]
fn what_was_told_is_there_after_a_power_cut_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    let store = Sqlite::open(&file).unwrap();
    let claim = have(&store, "a", enlist(&store));
    let log = || fs::read(folder.path().join("runs.db-wal")).unwrap();
    let mut told = vec![log().len()];
    for number in 1..=12 {
        write(&store, &claim, number, 3000).unwrap();
        told.push(log().len());
    }
    let (file, log) = (fs::read(&file).unwrap(), log());
    let mut cuts = 0;
    for (number, synced) in told.iter().enumerate() {
        let next = told.get(number + 1).copied().unwrap_or(log.len());
        for part in [0, 1, 2, 3] {
            // Of what came after the last sync a part is there, or something else is.
            let until = synced + (next - synced) * part / 3;
            let torn = [&log[..synced.max(&(until - 1)).to_owned()], &[0x5a; 300]].concat();
            for log in [log[..until].to_vec(), torn] {
                cuts += 1;
                let at = disk(&folder.path().join(format!("cut {cuts}")), &file, &log);
                let store = Sqlite::open(&at).unwrap();
                let there = whole(&store, "a", 3000);
                assert!(there >= number as u64, "{number} were told, {there} are there");
                // It goes on from there.
                let claim = have(&store, "a", enlist(&store));
                write(&store, &claim, there + 1, 3000).unwrap();
                store.close();
            }
        }
    }
}
