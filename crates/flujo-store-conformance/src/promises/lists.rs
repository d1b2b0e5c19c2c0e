//! Lists and purges.

use flujo_core::store::{Change, NewRun, Order, PurgeQuery, RunQuery, RunStatus, StoreError};

use crate::check::{Asked, append, blob, bytes, equal, fits, new, summary, wait};
use crate::{Broken, Place};

/// A run of this age and kind, released.
fn stored(asked: &Asked, id: &str, created: i64, pipeline: &str, status: RunStatus) -> Result<(), Broken> {
    let claim = asked.begin_as(NewRun {
        created,
        pipeline: pipeline.into(),
        ..new(id)
    })?;
    let mut written = summary(status, created + 5);
    written.due = (status == RunStatus::Paused).then_some(created + 10);
    let given = blob(id.as_bytes());
    asked.write(
        &claim,
        vec![
            append([1]),
            Change::Blob(given),
            Change::Summary(written),
            Change::Release,
        ],
    )?;
    Ok(())
}

fn ids(asked: &Asked, query: RunQuery) -> Result<Vec<String>, Broken> {
    let page = wait(asked.store.list(query))?;
    Ok(page.runs.iter().map(|run| run.id.to_string()).collect())
}

pub(super) fn a_list_shows_the_newest_or_the_oldest_first_page_by_page(
    place: &dyn Place,
) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let statuses = RunStatus::ALL.into_iter().cycle();
    for (at, status) in (0..23_i64).zip(statuses) {
        // Several of one time, and not in the order of their ids.
        stored(&asked, &format!("run {}", 50 - at), at / 4, "checks", status)?;
    }
    let all = ids(&asked, RunQuery::default())?;
    let mut sorted: Vec<_> = (0..23_i64)
        .map(|at| (-(at / 4), format!("run {}", 50 - at)))
        .collect();
    sorted.sort();
    equal!(all, sorted.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    for (limit, order) in [
        (1, Order::Newest),
        (3, Order::Oldest),
        (4, Order::Newest),
        (22, Order::Oldest),
        (23, Order::Newest),
    ] {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let query = RunQuery {
                limit,
                after,
                order,
                ..RunQuery::default()
            };
            let page = wait(asked.store.list(query))?;
            equal!(page.runs.len() <= limit as usize, true);
            found.extend(page.runs.iter().map(|run| run.id.to_string()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if order == Order::Oldest {
            found.reverse();
        }
        equal!(found, all);
    }
    Ok(())
}

#[allow(clippy::too_many_lines)] // a table
pub(super) fn a_list_shows_what_is_asked_for(place: &dyn Place) -> Result<(), Broken> {
    use RunStatus::{Completed, Failed, Paused, Running};
    let asked = Asked::open(place)?;
    stored(&asked, "a", 10, "x", Completed)?;
    stored(&asked, "b", 20, "x", Failed)?;
    stored(&asked, "c", 30, "y", Paused)?;
    stored(&asked, "d", 40, "x", Paused)?;
    asked.begin_as(NewRun {
        created: 50,
        ..new("e")
    })?;
    let all = RunQuery::default;
    let cases = [
        (
            RunQuery {
                statuses: vec![Paused],
                ..all()
            },
            vec!["d", "c"],
        ),
        (
            RunQuery {
                statuses: vec![Failed, Completed, Failed],
                ..all()
            },
            vec!["b", "a"],
        ),
        (
            RunQuery {
                pipeline: Some("x".into()),
                ..all()
            },
            vec!["d", "b", "a"],
        ),
        (
            RunQuery {
                pipeline: Some("x".into()),
                statuses: vec![Paused, Completed],
                ..all()
            },
            vec!["d", "a"],
        ),
        (
            RunQuery {
                created_before: Some(30),
                ..all()
            },
            vec!["b", "a"],
        ),
        (
            RunQuery {
                created_from: Some(30),
                ..all()
            },
            vec!["e", "d", "c"],
        ),
        (
            RunQuery {
                created_from: Some(20),
                created_before: Some(40),
                ..all()
            },
            vec!["c", "b"],
        ),
        (
            RunQuery {
                due_by: Some(40),
                ..all()
            },
            vec!["c"],
        ),
        (
            RunQuery {
                due_by: Some(50),
                pipeline: Some("x".into()),
                ..all()
            },
            vec!["d"],
        ),
        (
            RunQuery {
                due_by: Some(39),
                ..all()
            },
            vec![],
        ),
        (
            RunQuery {
                owner: Some(None),
                ..all()
            },
            vec!["d", "c", "b", "a"],
        ),
        (
            RunQuery {
                owner: Some(None),
                statuses: vec![Running],
                ..all()
            },
            vec![],
        ),
        (
            RunQuery {
                owner: Some(Some(asked.worker)),
                ..all()
            },
            vec!["e"],
        ),
        (
            RunQuery {
                after: Some((30, "b".into())),
                ..all()
            },
            vec!["c", "b", "a"],
        ),
        (
            RunQuery {
                after: Some((30, "c".into())),
                statuses: vec![Failed],
                ..all()
            },
            vec!["b"],
        ),
        (RunQuery { limit: 0, ..all() }, vec![]),
    ];
    for (query, expected) in cases {
        equal!(
            (ids(&asked, query.clone())?, &query),
            (expected.iter().map(|id| (*id).to_owned()).collect(), &query)
        );
    }
    let found = wait(asked.store.list(RunQuery { limit: 1, ..all() }))?;
    equal!(found.next, Some((50, "e".into())));
    Ok(())
}

pub(super) fn a_purge_takes_what_has_ended_and_nothing_else(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let fill = || -> Result<(), Broken> {
        for (at, status) in (1..).zip(RunStatus::ALL) {
            stored(
                &asked,
                status.as_str(),
                at * 10,
                if at % 2 == 0 { "x" } else { "y" },
                status,
            )?;
        }
        Ok(())
    };
    fill()?;
    equal!(wait(asked.store.purge(PurgeQuery::default()))?, 4);
    equal!(
        ids(&asked, RunQuery::default())?,
        vec!["paused", "running", "queued"]
    );
    let missing = wait(asked.store.blob("failed".into(), blob(b"failed").id));
    fits!(missing, Err(StoreError::UnknownRun { .. }));
    equal!(
        wait(asked.store.blob("paused".into(), blob(b"paused").id))?,
        bytes(b"paused")
    );
    equal!(asked.load("paused")?.records.len(), 1);
    let one = |query: PurgeQuery| wait(asked.store.purge(query));
    equal!(
        one(PurgeQuery {
            run: Some("paused".into()),
            ..PurgeQuery::default()
        })?,
        0
    );
    let statuses = vec![RunStatus::Paused, RunStatus::Queued];
    equal!(
        one(PurgeQuery {
            run: Some("paused".into()),
            statuses,
            ..PurgeQuery::default()
        })?,
        1
    );
    equal!(
        one(PurgeQuery {
            run: Some("unknown".into()),
            ..PurgeQuery::default()
        })?,
        0
    );
    equal!(ids(&asked, RunQuery::default())?, vec!["running", "queued"]);
    let statuses = RunStatus::ALL.to_vec();
    equal!(
        one(PurgeQuery {
            statuses: statuses.clone(),
            updated_before: Some(25),
            ..PurgeQuery::default()
        })?,
        1
    );
    equal!(
        one(PurgeQuery {
            statuses,
            pipeline: Some("y".into()),
            ..PurgeQuery::default()
        })?,
        0
    );
    equal!(ids(&asked, RunQuery::default())?, vec!["running"]);
    Ok(())
}

pub(super) fn a_purge_keeps_the_newest(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    for (at, id) in (1..).zip(["a", "b", "c", "d", "e"]) {
        let status = if id == "c" {
            RunStatus::Paused
        } else {
            RunStatus::Completed
        };
        stored(&asked, id, at, "checks", status)?;
    }
    let keep = |keep| PurgeQuery {
        keep: Some(keep),
        ..PurgeQuery::default()
    };
    equal!(wait(asked.store.purge(keep(4)))?, 0);
    equal!(wait(asked.store.purge(keep(2)))?, 2);
    equal!(ids(&asked, RunQuery::default())?, vec!["e", "d", "c"]);
    let a_part = PurgeQuery {
        at_most: Some(1),
        ..PurgeQuery::default()
    };
    equal!(wait(asked.store.purge(a_part.clone()))?, 1);
    equal!(wait(asked.store.purge(a_part.clone()))?, 1);
    equal!(wait(asked.store.purge(a_part))?, 0);
    equal!(ids(&asked, RunQuery::default())?, vec!["c"]);
    Ok(())
}

pub(super) fn a_purge_leaves_runs_under_way(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    asked.write(
        &claim,
        vec![append([1]), Change::Summary(summary(RunStatus::Completed, 9))],
    )?;
    let statuses = RunStatus::ALL.to_vec();
    let everything = PurgeQuery {
        statuses,
        ..PurgeQuery::default()
    };
    equal!(wait(asked.store.purge(everything.clone()))?, 0);
    asked.write(&claim, vec![append([2]), Change::Release])?;
    equal!(wait(asked.store.purge(everything))?, 1);
    equal!(ids(&asked, RunQuery::default())?, Vec::<String>::new());
    Ok(())
}
