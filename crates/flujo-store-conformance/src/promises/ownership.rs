//! Who owns a run, and who may write.

use std::sync::Arc;

use flujo_core::store::{Change, Created, RunQuery, RunStatus, Seen, StoreError, WorkerId};

use crate::check::{Asked, append, bytes, equal, fits, new, numbers, process, summary, wait};
use crate::{Broken, Place};

/// A second worker, with a connection of its own.
fn contender(place: &dyn Place) -> Result<Asked, Broken> {
    let store = place.open();
    let worker = wait(store.enlist(process(2)))?;
    Ok(Asked { store, worker })
}

fn owned(worker: WorkerId, beats: u64) -> Seen {
    Seen::Owned { worker, beats }
}

pub(super) fn a_run_without_a_worker_waits_to_be_claimed(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    equal!(wait(asked.store.create(new("a"), None))?, Created::New(None));
    equal!(asked.load("a")?.info.owner, None);
    let unowned = wait(
        asked
            .store
            .claim("a".into(), asked.worker, owned(asked.worker, 0)),
    );
    fits!(unowned, Err(StoreError::Owned { .. }));
    let claim = wait(asked.store.claim("a".into(), asked.worker, Seen::Free))?;
    asked.write(&claim, vec![append([1])])?;
    fits!(asked.load("a")?.info.owner, Some(owner) if owner.worker == asked.worker);
    Ok(())
}

pub(super) fn a_run_under_way_is_not_given_away(place: &dyn Place) -> Result<(), Broken> {
    let (asked, other) = (Asked::open(place)?, contender(place)?);
    let claim = asked.begin("a")?;
    let refused = wait(other.store.claim("a".into(), other.worker, Seen::Free));
    fits!(refused, Err(StoreError::Owned { owner, .. }) if owner.contains("host"));
    let mistaken = wait(
        other
            .store
            .claim("a".into(), other.worker, owned(other.worker, 0)),
    );
    fits!(mistaken, Err(StoreError::Owned { .. }));
    let unknown = wait(other.store.claim("b".into(), other.worker, Seen::Free));
    fits!(unknown, Err(StoreError::UnknownRun { .. }));
    asked.write(&claim, vec![append([1])])?;
    Ok(())
}

pub(super) fn a_worker_whose_counter_moved_keeps_its_run(place: &dyn Place) -> Result<(), Broken> {
    let (asked, other) = (Asked::open(place)?, contender(place)?);
    let claim = asked.begin("a")?;
    let beats = other.beats(asked.worker)?;
    wait(asked.store.beat(asked.worker))?;
    let refused = wait(
        other
            .store
            .claim("a".into(), other.worker, owned(asked.worker, beats)),
    );
    fits!(refused, Err(StoreError::Owned { .. }));
    equal!(other.beats(asked.worker)?, beats + 1);
    asked.write(&claim, vec![append([1])])?;
    Ok(())
}

pub(super) fn a_worker_whose_counter_stood_still_loses_its_run(place: &dyn Place) -> Result<(), Broken> {
    let (asked, other) = (Asked::open(place)?, contender(place)?);
    let before = asked.begin("a")?;
    wait(asked.store.beat(asked.worker))?;
    let seen = owned(asked.worker, other.beats(asked.worker)?);
    let claim = wait(other.store.claim("a".into(), other.worker, seen))?;
    equal!(claim.token > before.token, true);
    fits!(other.load("a")?.info.owner, Some(owner) if owner.worker == other.worker);
    let again = wait(asked.store.claim("a".into(), asked.worker, seen));
    fits!(again, Err(StoreError::Owned { .. }));
    Ok(())
}

pub(super) fn a_stale_owner_writes_nothing(place: &dyn Place) -> Result<(), Broken> {
    let (asked, other) = (Asked::open(place)?, contender(place)?);
    let stale = asked.begin("a")?;
    asked.write(&stale, vec![append([1])])?;
    let claim = wait(
        other
            .store
            .claim("a".into(), other.worker, owned(asked.worker, 0)),
    )?;
    other.write(&claim, vec![append([2])])?;
    let message = wait(other.store.post("a".into(), bytes(b"x")))?;
    let body = bytes(b"stale");
    for changes in [
        vec![append([3])],
        vec![Change::Snapshot { through: 1, body }],
        vec![Change::Summary(summary(RunStatus::Failed, 9))],
        vec![Change::Taken(message)],
        vec![Change::Release],
        vec![Change::Delete],
        vec![],
    ] {
        fits!(asked.write(&stale, changes), Err(StoreError::Fenced { run }) if &**run == "a");
    }
    let found = other.load("a")?;
    equal!(
        (numbers(&found), found.info.summary.status),
        (vec![1, 2], RunStatus::Running)
    );
    equal!(wait(other.store.messages(other.worker))?.len(), 1);
    other.write(&claim, vec![append([3])])?;
    Ok(())
}

pub(super) fn a_released_run_is_free_and_its_claim_is_of_no_use(place: &dyn Place) -> Result<(), Broken> {
    let (asked, other) = (Asked::open(place)?, contender(place)?);
    let claim = asked.begin("a")?;
    let early = asked.write(&claim, vec![Change::Release, append([1])]);
    fits!(early, Err(StoreError::OutOfOrder { .. }));
    let claim = wait(
        asked
            .store
            .claim("a".into(), asked.worker, owned(asked.worker, 0)),
    )?;
    asked.write(&claim, vec![append([1]), Change::Release])?;
    equal!(asked.load("a")?.info.owner, None);
    fits!(
        asked.write(&claim, vec![append([2])]),
        Err(StoreError::Fenced { .. })
    );
    let theirs = wait(other.store.claim("a".into(), other.worker, Seen::Free))?;
    fits!(
        asked.write(&claim, vec![append([2])]),
        Err(StoreError::Fenced { .. })
    );
    other.write(&theirs, vec![append([2])])?;
    Ok(())
}

pub(super) fn a_worker_takes_its_own_run_anew(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let before = asked.begin("a")?;
    wait(asked.store.beat(asked.worker))?;
    // Its own counter need not be known: another thread of the process raises it.
    let claim = wait(
        asked
            .store
            .claim("a".into(), asked.worker, owned(asked.worker, 77)),
    )?;
    fits!(
        asked.write(&before, vec![append([1])]),
        Err(StoreError::Fenced { .. })
    );
    asked.write(&claim, vec![append([1])])?;
    Ok(())
}

pub(super) fn one_of_many_contenders_gets_a_run(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    wait(asked.store.create(new("a"), None))?;
    let contenders: Vec<Asked> = (0..4).map(|_| contender(place)).collect::<Result<_, _>>()?;
    let claims: Vec<_> = contenders
        .iter()
        .map(|other| other.store.claim("a".into(), other.worker, Seen::Free))
        .collect();
    let mut won = 0;
    for claim in claims {
        match wait(claim) {
            Ok(_) => won += 1,
            refused => fits!(refused, Err(StoreError::Owned { .. })),
        }
    }
    equal!(won, 1);
    Ok(())
}

pub(super) fn a_dismissed_worker_owns_nothing(place: &dyn Place) -> Result<(), Broken> {
    let (asked, other) = (Asked::open(place)?, contender(place)?);
    let (claim, _) = (asked.begin("a")?, asked.begin("b")?);
    let kept = other.begin("c")?;
    wait(other.store.post("a".into(), Arc::from(b"hello".as_slice())))?;
    equal!(wait(asked.store.messages(asked.worker))?.len(), 1);
    let owned = |owner| RunQuery {
        owner: Some(owner),
        ..RunQuery::default()
    };
    equal!(wait(other.store.list(owned(Some(asked.worker))))?.runs.len(), 2);
    equal!(wait(asked.store.dismiss(asked.worker, None))?, true);
    equal!(wait(asked.store.messages(asked.worker))?.len(), 0);
    equal!(wait(other.store.list(owned(Some(asked.worker))))?.runs.len(), 0);
    equal!(wait(other.store.list(owned(None)))?.runs.len(), 2);
    fits!(
        asked.write(&claim, vec![append([1])]),
        Err(StoreError::Fenced { .. })
    );
    fits!(
        wait(asked.store.beat(asked.worker)),
        Err(StoreError::UnknownWorker { .. })
    );
    let none = wait(asked.store.claim("a".into(), asked.worker, Seen::Free));
    fits!(none, Err(StoreError::UnknownWorker { .. }));
    let create = wait(asked.store.create(new("d"), Some(asked.worker)));
    fits!(create, Err(StoreError::UnknownWorker { .. }));
    for run in ["a", "b"] {
        wait(other.store.claim(run.into(), other.worker, Seen::Free))?;
    }
    other.write(&kept, vec![append([1])])?;
    equal!(wait(asked.store.dismiss(asked.worker, None))?, false);
    Ok(())
}

pub(super) fn a_worker_is_struck_off_only_as_it_was_seen(place: &dyn Place) -> Result<(), Broken> {
    let (asked, other) = (Asked::open(place)?, contender(place)?);
    let claim = asked.begin("a")?;
    wait(asked.store.beat(asked.worker))?;
    equal!(wait(other.store.dismiss(asked.worker, Some(0)))?, false);
    asked.write(&claim, vec![append([1])])?;
    equal!(wait(other.store.dismiss(asked.worker, Some(1)))?, true);
    fits!(
        asked.write(&claim, vec![append([2])]),
        Err(StoreError::Fenced { .. })
    );
    Ok(())
}

pub(super) fn workers_are_listed_and_no_name_is_given_twice(place: &dyn Place) -> Result<(), Broken> {
    let (asked, other) = (Asked::open(place)?, contender(place)?);
    let listed = wait(asked.store.workers())?;
    equal!(
        listed.iter().map(|worker| worker.id).collect::<Vec<_>>(),
        vec![asked.worker, other.worker]
    );
    equal!(listed[1].process, process(2));
    wait(other.store.dismiss(other.worker, None))?;
    let next = contender(place)?;
    equal!(next.worker != other.worker && next.worker != asked.worker, true);
    equal!(wait(asked.store.workers())?.len(), 2);
    Ok(())
}
