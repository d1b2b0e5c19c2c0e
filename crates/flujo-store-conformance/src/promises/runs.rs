//! Runs and what belongs to them.

use flujo_core::store::{Change, Created, NewRun, RunQuery, RunStatus, Seen, StoreError};

use crate::check::{Asked, append, blob, bytes, equal, fits, new, numbers, process, summary, wait};
use crate::{Broken, Place};

pub(super) fn a_new_run_is_found_as_it_was_given(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let given = NewRun {
        forked_from: Some("another".into()),
        blobs: vec![blob(b"large")],
        status: RunStatus::Queued,
        ..new("a")
    };
    let claim = asked.begin_as(given.clone())?;
    equal!((&*claim.run, claim.worker), ("a", asked.worker));
    let found = asked.load("a")?;
    equal!(
        (found.definition, found.snapshot, found.through),
        (given.definition, given.snapshot, 0)
    );
    equal!(found.records.len(), 0);
    let info = found.info;
    equal!((&*info.id, &*info.pipeline, info.created), ("a", "checks", 1000));
    equal!((info.forked_from, info.last_record), (given.forked_from, 0));
    equal!(
        (info.summary.status, info.summary.updated, info.summary.steps),
        (RunStatus::Queued, 1000, 0)
    );
    fits!(info.owner, Some(owner) if owner.worker == asked.worker && owner.beats == 0 && owner.process.contains("host"));
    equal!(
        wait(asked.store.info("a".into()))?.map(|info| info.id),
        Some("a".into())
    );
    equal!(
        wait(asked.store.blob("a".into(), given.blobs[0].id))?,
        given.blobs[0].body
    );
    Ok(())
}

pub(super) fn an_id_is_given_once(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    asked.begin("a")?;
    let again = NewRun {
        snapshot: bytes(b"other"),
        ..new("a")
    };
    let exists = wait(asked.store.create(again, Some(asked.worker)))?;
    fits!(exists, Created::Exists(info) if &*info.id == "a");
    equal!(asked.load("a")?.snapshot, bytes(b"first"));
    Ok(())
}

pub(super) fn any_text_is_an_id(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let ids = ["a'b\"c", "", "a b", "%_", "ünï \u{1f426}", "../../x", "A", "a"];
    for id in ids {
        asked.begin(id)?;
    }
    for id in ids {
        equal!(&*asked.load(id)?.info.id, id);
    }
    Ok(())
}

pub(super) fn what_is_not_there_is_told(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    equal!(wait(asked.store.info("b".into()))?, None);
    fits!(asked.load("b"), Err(StoreError::UnknownRun { run, .. }) if &**run == "b");
    let gone = flujo_core::store::Claim {
        run: "b".into(),
        ..claim
    };
    fits!(
        asked.write(&gone, vec![append([1])]),
        Err(StoreError::UnknownRun { .. })
    );
    fits!(
        wait(asked.store.post("b".into(), bytes(b"x"))),
        Err(StoreError::UnknownRun { .. })
    );
    let unknown = blob(b"unknown").id;
    fits!(
        wait(asked.store.blob("b".into(), unknown)),
        Err(StoreError::UnknownRun { .. })
    );
    let missing = wait(asked.store.blob("a".into(), unknown));
    fits!(missing, Err(StoreError::Corrupt { run: Some(run), .. }) if &**run == "a");
    Ok(())
}

pub(super) fn a_blob_comes_back_as_it_was(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let (a, b) = (asked.begin("a")?, asked.begin("b")?);
    let given = blob(b"some bytes");
    let again = vec![Change::Blob(given.clone()), Change::Blob(given.clone())];
    asked.write(&a, again.clone())?;
    asked.write(&a, again)?;
    equal!(wait(asked.store.blob("a".into(), given.id))?, given.body);
    // Each run has its own.
    fits!(
        wait(asked.store.blob("b".into(), given.id)),
        Err(StoreError::Corrupt { .. })
    );
    asked.write(&b, vec![Change::Blob(given.clone())])?;
    asked.write(&a, vec![Change::Delete])?;
    equal!(wait(asked.store.blob("b".into(), given.id))?, given.body);
    Ok(())
}

pub(super) fn blobs_that_nothing_refers_to_are_freed(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let (a, b) = (asked.begin("a")?, asked.begin("b")?);
    let [old, kept, new] = [b"an old one", b"that stays", b"a new one."].map(|body| blob(body));
    let before = vec![
        append(1..=2),
        Change::Blob(old.clone()),
        Change::Blob(kept.clone()),
    ];
    asked.write(&a, before.clone())?;
    asked.write(&b, before)?;
    let body = bytes(b"first");
    let changes = vec![
        Change::Snapshot { through: 0, body },
        Change::Keep(vec![kept.id]),
        Change::Blob(new.clone()),
    ];
    asked.write(&a, changes)?;
    fits!(
        wait(asked.store.blob("a".into(), old.id)),
        Err(StoreError::Corrupt { .. })
    );
    for blob in [&kept, &new] {
        equal!(wait(asked.store.blob("a".into(), blob.id))?, blob.body);
    }
    // Those of other runs stay.
    equal!(wait(asked.store.blob("b".into(), old.id))?, old.body);
    // One that is freed and written again is there.
    let again = vec![Change::Keep(Vec::new()), Change::Blob(old.clone())];
    asked.write(&a, again)?;
    equal!(wait(asked.store.blob("a".into(), old.id))?, old.body);
    // With a write that is refused none is freed.
    fits!(
        asked.write(&a, vec![Change::Keep(Vec::new()), append([9])]),
        Err(StoreError::OutOfOrder { .. })
    );
    let seen = Seen::Owned {
        worker: asked.worker,
        beats: 0,
    };
    let a = wait(asked.store.claim("a".into(), asked.worker, seen))?;
    equal!(wait(asked.store.blob("a".into(), old.id))?, old.body);
    asked.write(&a, vec![Change::Keep(Vec::new())])?;
    fits!(
        wait(asked.store.blob("a".into(), old.id)),
        Err(StoreError::Corrupt { .. })
    );
    Ok(())
}

pub(super) fn a_large_body_and_an_empty_one_come_back(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|at| [at.to_le_bytes()[0]]).collect();
    let claim = asked.begin_as(NewRun {
        snapshot: bytes(b""),
        definition: bytes(b""),
        ..new("a")
    })?;
    let record = |number, body: &[u8]| flujo_core::store::Record {
        number,
        body: body.into(),
    };
    let records = vec![record(1, &large), record(2, b""), record(3, b"\0\xff")];
    asked.write(
        &claim,
        vec![Change::Append(records.clone()), Change::Blob(blob(&large))],
    )?;
    let found = asked.load("a")?;
    equal!((&*found.snapshot, &*found.definition), (&b""[..], &b""[..]));
    equal!(found.records == records, true);
    equal!(
        *wait(asked.store.blob("a".into(), blob(&large).id))? == *large,
        true
    );
    Ok(())
}

pub(super) fn a_summary_is_told_as_it_was_written(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    for (at, status) in (2000..).zip(RunStatus::ALL) {
        let mut written = summary(status, at);
        written.due = (at % 2 == 0).then_some(-at);
        asked.write(&claim, vec![Change::Summary(written.clone())])?;
        equal!(
            wait(asked.store.info("a".into()))?.map(|info| info.summary),
            Some(written)
        );
    }
    Ok(())
}

pub(super) fn bytes_are_counted(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let count = || wait(asked.store.info("a".into())).map(|info| info.map(|info| info.bytes));
    let claim = asked.begin("a")?;
    let new = ("definition".len() + "first".len()) as u64;
    equal!(count()?, Some(new));
    let given = blob(b"12345678");
    asked.write(
        &claim,
        vec![append(1..=3), Change::Blob(given.clone()), Change::Blob(given)],
    )?;
    equal!(count()?, Some(new + 3 * 8 + 8));
    let body = bytes(b"second snapshot");
    asked.write(&claim, vec![Change::Snapshot { through: 2, body }])?;
    equal!(count()?, Some(new - 5 + 15 + 8 + 8));
    asked.write(&claim, vec![Change::Keep(Vec::new())])?;
    equal!(count()?, Some(new - 5 + 15 + 8));
    Ok(())
}

pub(super) fn a_deleted_run_leaves_nothing(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    let given = blob(b"12345678");
    asked.write(&claim, vec![append(1..=3), Change::Blob(given.clone())])?;
    wait(asked.store.post("a".into(), bytes(b"x")))?;
    asked.write(&claim, vec![Change::Delete])?;
    equal!(wait(asked.store.info("a".into()))?, None);
    fits!(
        asked.write(&claim, vec![append([4])]),
        Err(StoreError::UnknownRun { .. })
    );
    // Whoever takes its id, or its place, finds nothing of it.
    asked.begin("a")?;
    equal!(numbers(&asked.load("a")?), Vec::<u64>::new());
    fits!(
        wait(asked.store.blob("a".into(), given.id)),
        Err(StoreError::Corrupt { .. })
    );
    equal!(wait(asked.store.messages(asked.worker))?.len(), 0);
    Ok(())
}

pub(super) fn what_was_written_is_there_when_opened_again(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    let given = blob(b"large");
    asked.write(&claim, vec![append(1..=3), Change::Blob(given.clone())])?;
    let body = bytes(b"second");
    asked.write(&claim, vec![Change::Snapshot { through: 1, body }])?;
    asked.write(&claim, vec![Change::Summary(summary(RunStatus::Paused, 5))])?;
    let before = asked.load("a")?;
    drop(asked.store);
    let store = place.open();
    equal!(wait(store.load("a".into()))?, before);
    equal!(wait(store.blob("a".into(), given.id))?, given.body);
    // Who was the owner goes on.
    wait(store.write(&claim, vec![append([4])]))?;
    equal!(numbers(&wait(store.load("a".into()))?), vec![2, 3, 4]);
    Ok(())
}

pub(super) fn clocks_that_are_set_back_or_forward_decide_nothing(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin_as(NewRun {
        created: i64::MAX,
        ..new("a")
    })?;
    for (number, now) in (1..).zip([5000, 4000, i64::MIN, i64::MAX, 0]) {
        let mut written = summary(RunStatus::Running, now);
        written.due = Some(now);
        asked.write(&claim, vec![append([number]), Change::Summary(written)])?;
    }
    let found = asked.load("a")?;
    equal!(numbers(&found), vec![1, 2, 3, 4, 5]);
    equal!((found.info.summary.updated, found.info.summary.due), (0, Some(0)));
    // Whoever has a run has it, whatever its clock says.
    let other = wait(asked.store.enlist(process(2)))?;
    let refused = wait(asked.store.claim("a".into(), other, Seen::Free));
    fits!(refused, Err(StoreError::Owned { .. }));
    asked.begin_as(NewRun {
        created: i64::MIN,
        ..new("b")
    })?;
    let listed = wait(asked.store.list(RunQuery::default()))?;
    equal!(
        listed.runs.iter().map(|run| &*run.id).collect::<Vec<_>>(),
        vec!["a", "b"]
    );
    Ok(())
}
