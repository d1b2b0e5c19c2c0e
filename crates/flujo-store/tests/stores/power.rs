//! Power cuts: what the disk may hold when the machine ends at any moment.
//!
//! With the write-ahead log nothing but the log is written between two checkpoints, and all of a transaction is in it
//! before it is told. So the disk holds the file, and the log up to where it was last synced, followed by any part of
//! what came later, or by rubbish.

use std::fs;
use std::path::Path;

use flujo_core::store::RunStore;
use flujo_store::Sqlite;
use flujo_store_faults::Disk;

use super::runs::{append, enlist, have, wait, whole, write};

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
    let mut told = vec![log()];
    for number in 1..=12 {
        write(&store, &claim, number, 3000).unwrap();
        told.push(log());
    }
    let file = fs::read(&file).unwrap();
    let mut cuts = 0;
    for (number, synced) in told.iter().enumerate() {
        let next = told.get(number + 1).unwrap_or(synced);
        let changed = |at: &usize| synced.get(*at) != next.get(*at);
        let from = (0..next.len()).find(changed).unwrap_or(synced.len());
        let to = (from..next.len()).rfind(changed).map_or(from, |last| last + 1);
        for part in [0, 1, 2, 3] {
            // Of what came after the last sync a part is there, or something else is; and the file is as long as it was, or
            // ends with that.
            let until = from + (to - from) * part / 3;
            let ends = next[..until].to_vec();
            let behind = synced.get(until..).unwrap_or_default();
            let as_long = [&ends, behind].concat();
            let torn = [&ends[..from.max(until.saturating_sub(1))], &[0x5a; 300], behind].concat();
            for log in [ends, as_long, torn] {
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

#[test]
fn what_was_told_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::watch(folder.path()).unwrap();
    let store = Sqlite::open(folder.path().canonicalize().unwrap().join("runs.db")).unwrap();
    let claim = have(&store, "a", enlist(&store));
    let cut = |number: u64| folder.path().join(format!("cut {number}"));
    for number in 1..=40 {
        // Some are asked for together, and more is on its way when the power goes.
        let behind = store.write(&claim, vec![append("a", 2 * number - 1, 3000)]);
        write(&store, &claim, 2 * number, 3000).unwrap();
        let next = have(&store, "b", enlist(&store));
        let unfinished = store.write(&next, vec![append("b", number, 100)]);
        disk.power_cut(&cut(number)).unwrap();
        wait(behind).unwrap();
        wait(unfinished).unwrap();
    }
    store.close();
    for number in 1..=40 {
        let store = Sqlite::open(cut(number).join("runs.db")).unwrap();
        assert!(whole(&store, "a", 3000) >= 2 * number);
    }
}
