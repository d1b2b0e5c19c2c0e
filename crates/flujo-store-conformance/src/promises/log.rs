//! The log of a run, and how it is written.

use flujo_core::store::{Change, Seen, StoreError};

use crate::check::{Asked, append, blob, bytes, equal, fits, numbers, record, wait};
use crate::{Broken, Place};

pub(super) fn records_come_back_in_order(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let (a, b) = (asked.begin("a")?, asked.begin("b")?);
    for number in 1..=20 {
        asked.write(&a, vec![append([number])])?;
        asked.write(&b, vec![append([2 * number - 1]), append([2 * number])])?;
    }
    let found = asked.load("a")?;
    equal!(found.records, (1..=20).map(record).collect::<Vec<_>>());
    equal!(found.info.last_record, 20);
    equal!(numbers(&asked.load("b")?), (1..=40).collect::<Vec<_>>());
    Ok(())
}

pub(super) fn a_gap_is_refused(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    for (run, numbers, last) in [
        ("a", vec![2], 0),
        ("b", vec![1, 1], 1),
        ("c", vec![1, 2, 4], 2),
        ("d", vec![0], 0),
    ] {
        let claim = asked.begin(run)?;
        let refused = asked.write(&claim, vec![append(numbers)]);
        fits!(refused, Err(StoreError::OutOfOrder { last: told, .. }) if *told == last);
        equal!(asked.load(run)?.records.len(), 0);
    }
    Ok(())
}

pub(super) fn a_snapshot_replaces_what_is_in_it(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    let snapshot = |through, body: &[u8]| Change::Snapshot {
        through,
        body: bytes(body),
    };
    asked.write(&claim, vec![append(1..=5), snapshot(3, b"three")])?;
    let found = asked.load("a")?;
    equal!((found.through, found.snapshot.clone()), (3, bytes(b"three")));
    equal!(numbers(&found), vec![4, 5]);
    asked.write(&claim, vec![append([6]), snapshot(6, b"six"), append([7])])?;
    let found = asked.load("a")?;
    equal!(
        (found.through, found.snapshot.clone(), found.info.last_record),
        (6, bytes(b"six"), 7)
    );
    equal!(numbers(&found), vec![7]);
    // A newer one of the same place is a newer one.
    asked.write(&claim, vec![snapshot(6, b"six again")])?;
    equal!(asked.load("a")?.snapshot, bytes(b"six again"));
    Ok(())
}

pub(super) fn a_snapshot_covers_only_what_was_written(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    for (run, through) in [("a", 4), ("b", 1)] {
        let claim = asked.begin(run)?;
        let body = bytes(b"two");
        asked.write(&claim, vec![append(1..=3), Change::Snapshot { through: 2, body }])?;
        let body = bytes(b"wrong");
        let refused = asked.write(&claim, vec![Change::Snapshot { through, body }]);
        fits!(refused, Err(StoreError::OutOfOrder { .. }));
        let found = asked.load(run)?;
        equal!(
            (found.through, found.snapshot.clone(), numbers(&found)),
            (2, bytes(b"two"), vec![3])
        );
    }
    Ok(())
}

pub(super) fn a_write_is_done_whole_or_not_at_all(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    asked.write(&claim, vec![append(1..=3)])?;
    let before = asked.load("a")?;
    let given = blob(b"half done");
    let body = bytes(b"half done");
    let changes = vec![
        Change::Blob(given.clone()),
        append([4]),
        Change::Snapshot { through: 3, body },
        append([9]),
    ];
    fits!(asked.write(&claim, changes), Err(StoreError::OutOfOrder { .. }));
    equal!(asked.load("a")?, before);
    fits!(
        wait(asked.store.blob("a".into(), given.id)),
        Err(StoreError::Corrupt { .. })
    );
    Ok(())
}

pub(super) fn writes_happen_in_the_order_they_were_asked_for(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    let writes: Vec<_> = (1..=100)
        .map(|number| {
            let changes = vec![append([number])];
            if number % 3 == 0 {
                asked.store.write_now(&claim, changes)
            } else {
                asked.store.write(&claim, changes)
            }
        })
        .collect();
    // The last one first: the order of waiting means nothing.
    for write in writes.into_iter().rev() {
        wait(write)?;
    }
    equal!(numbers(&asked.load("a")?), (1..=100).collect::<Vec<_>>());
    Ok(())
}

pub(super) fn a_write_behind_a_failed_one_fails_until_the_run_is_claimed_again(
    place: &dyn Place,
) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    let other = asked.begin("b")?;
    let fails = asked.store.write(&claim, vec![append([5])]);
    let behind = asked.store.write(&claim, vec![append([1])]);
    let of_another = asked.store.write(&other, vec![append([1])]);
    fits!(wait(fails), Err(StoreError::OutOfOrder { .. }));
    fits!(wait(behind), Err(StoreError::OutOfOrder { .. }));
    wait(of_another)?;
    fits!(
        asked.write(&claim, vec![append([1])]),
        Err(StoreError::OutOfOrder { .. })
    );
    equal!(asked.load("a")?.records.len(), 0);
    let beats = asked.beats(asked.worker)?;
    let seen = Seen::Owned {
        worker: asked.worker,
        beats,
    };
    let claim = wait(asked.store.claim("a".into(), asked.worker, seen))?;
    asked.write(&claim, vec![append([1])])?;
    equal!(numbers(&asked.load("a")?), vec![1]);
    Ok(())
}

pub(super) fn nobody_has_to_wait_for_a_write(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    for number in 1..=10 {
        drop(asked.store.write(&claim, vec![append([number])]));
    }
    wait(asked.store.flush())?;
    equal!(asked.load("a")?.info.last_record, 10);
    Ok(())
}

pub(super) fn threads_write_at_once_and_nothing_is_lost(place: &dyn Place) -> Result<(), Broken> {
    let (threads, each) = (8, 25);
    let asked = Asked::open(place)?;
    let claims: Vec<_> = (0..threads)
        .map(|run| asked.begin(&run.to_string()))
        .collect::<Result<_, _>>()?;
    let written: Result<Vec<()>, StoreError> = std::thread::scope(|scope| {
        let writing: Vec<_> = claims
            .iter()
            .map(|claim| {
                scope.spawn(|| (1..=each).try_for_each(|number| asked.write(claim, vec![append([number])])))
            })
            .collect();
        let lost = |_| Err(asked_lost());
        writing
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(lost))
            .collect()
    });
    written?;
    for claim in &claims {
        equal!(numbers(&asked.load(&claim.run)?), (1..=each).collect::<Vec<_>>());
    }
    Ok(())
}

fn asked_lost() -> StoreError {
    StoreError::Other {
        place: "the store".to_owned(),
        reason: "a thread that wrote has panicked".to_owned(),
    }
}
