//! What is left for a run's owner.

use flujo_core::store::{Change, RunQuery, Seen};

use crate::check::{Asked, append, bytes, equal, new, process, wait};
use crate::{Broken, Place};

fn bodies(asked: &Asked) -> Result<Vec<String>, Broken> {
    let messages = wait(asked.store.messages(asked.worker))?;
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    Ok(messages
        .iter()
        .map(|message| format!("{}: {}", message.run, text(&message.body)))
        .collect())
}

pub(super) fn messages_wait_for_an_owner_and_come_in_order(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    wait(asked.store.create(new("a"), None))?;
    asked.begin("b")?;
    for (run, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
        wait(asked.store.post(run.into(), bytes(body.as_bytes())))?;
    }
    equal!(bodies(&asked)?, vec!["b: 2"]);
    let waiting = RunQuery {
        with_messages: true,
        owner: Some(None),
        ..RunQuery::default()
    };
    let found = wait(asked.store.list(waiting))?;
    equal!(
        found.runs.iter().map(|run| &*run.id).collect::<Vec<_>>(),
        vec!["a"]
    );
    wait(asked.store.claim("a".into(), asked.worker, Seen::Free))?;
    equal!(bodies(&asked)?, vec!["a: 1", "b: 2", "a: 3"]);
    Ok(())
}

pub(super) fn a_message_stays_until_it_was_dealt_with(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let (a, b) = (asked.begin("a")?, asked.begin("b")?);
    let first = wait(asked.store.post("a".into(), bytes(b"1")))?;
    let second = wait(asked.store.post("a".into(), bytes(b"2")))?;
    equal!(bodies(&asked)?, vec!["a: 1", "a: 2"]);
    // One of another run isn't this run's to take.
    asked.write(&b, vec![Change::Taken(first)])?;
    equal!(bodies(&asked)?, vec!["a: 1", "a: 2"]);
    asked.write(&a, vec![append([1]), Change::Taken(second)])?;
    equal!(bodies(&asked)?, vec!["a: 1"]);
    asked.write(&a, vec![Change::Taken(first), Change::Taken(first)])?;
    equal!(bodies(&asked)?, Vec::<String>::new());
    // A name that is used again could be taken by one who comes late.
    let third = wait(asked.store.post("a".into(), bytes(b"3")))?;
    equal!(third != first && third != second, true);
    Ok(())
}

pub(super) fn messages_go_with_their_run(place: &dyn Place) -> Result<(), Broken> {
    let asked = Asked::open(place)?;
    let claim = asked.begin("a")?;
    wait(asked.store.post("a".into(), bytes(b"1")))?;
    asked.write(&claim, vec![Change::Release])?;
    equal!(bodies(&asked)?, Vec::<String>::new());
    let store = place.open();
    let worker = wait(store.enlist(process(2)))?;
    wait(store.claim("a".into(), worker, Seen::Free))?;
    equal!(bodies(&Asked { store, worker })?, vec!["a: 1"]);
    Ok(())
}
