//! What others leave for whoever runs a run, or will: see [`RunStore::post`](flujo_core::store::RunStore::post).

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::store::{Message, MessageId};
use serde::{Deserialize, Serialize};

/// The version of the form in which messages are written; the first byte of one.
const FORMAT: u8 = 1;

/// Something left for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Posted {
    /// It is to end.
    Cancel,
    /// An answer.
    Answer {
        /// The id of the question; `None` for the only one that is open.
        pause: Option<String>,
        /// The answer, as JSON.
        value: serde_json::Value,
    },
}

impl Posted {
    /// The message as bytes.
    pub fn to_bytes(&self) -> Arc<[u8]> {
        let mut bytes = vec![FORMAT];
        // JSON can always be written.
        let _ = self.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map());
        bytes.into()
    }

    /// The message that was left.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&FORMAT, body)) => rmp_serde::from_slice(body).map_err(|error| error.to_string()),
            Some((version, _)) => Err(format!(
                "its form has the version {version}; this program knows {FORMAT}"
            )),
            None => Err("it is empty".to_owned()),
        }
    }
}

/// What has been left for one run that is under way here, each message once, however often the store tells of it.
///
/// Whoever runs it takes the messages out when it can deal with them, and says so to the store
/// ([`Change::Taken`](flujo_core::store::Change::Taken)) in the transaction that writes what came of them
/// ([`Journal::along`](crate::Journal::along)). Messages in a form that this program doesn't know stay in the store.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    /// Called after something has come in.
    wake: Option<Wake>,
}

type Wake = Box<dyn Fn(&Posted) + Send + Sync>;

#[derive(Debug, Default)]
struct State {
    seen: HashSet<MessageId>,
    waiting: VecDeque<(MessageId, Posted)>,
}

impl Inbox {
    /// One that calls `wake` each time something has come in, on the thread that brings it.
    pub fn new(wake: impl Fn(&Posted) + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            wake: Some(Box::new(wake)),
        }
    }

    /// Puts a message in, unless it has been here before.
    pub fn put(&self, message: &Message) {
        let Ok(posted) = Posted::from_bytes(&message.body) else {
            return;
        };
        let mut state = self.lock();
        if !state.seen.insert(message.id) {
            return;
        }
        state.waiting.push_back((message.id, posted.clone()));
        drop(state);
        if let Some(wake) = &self.wake {
            wake(&posted);
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Whether there are answers in it.
    pub fn has_answers(&self) -> bool {
        let state = self.lock();
        state.waiting.iter().any(|(_, posted)| *posted != Posted::Cancel)
    }

    /// Whether there is a request to stop in it.
    pub fn has_cancel(&self) -> bool {
        let state = self.lock();
        state.waiting.iter().any(|(_, posted)| *posted == Posted::Cancel)
    }

    /// Takes a request to stop out, if there is one.
    pub fn take_cancel(&self) -> Option<MessageId> {
        let mut state = self.lock();
        let place = state
            .waiting
            .iter()
            .position(|(_, posted)| *posted == Posted::Cancel)?;
        state.waiting.remove(place).map(|(id, _)| id)
    }

    /// Takes everything else out, in the order in which it was left: the ids of questions, and answers.
    pub fn take_answers(&self) -> Vec<(MessageId, Option<String>, serde_json::Value)> {
        let mut state = self.lock();
        let (mut answers, mut rest) = (Vec::new(), VecDeque::new());
        for (id, posted) in state.waiting.drain(..) {
            match posted {
                Posted::Answer { pause, value } => answers.push((id, pause, value)),
                other @ Posted::Cancel => rest.push_back((id, other)),
            }
        }
        state.waiting = rest;
        answers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole messages are put in and taken out, so it is good also after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(&*self.lock()).finish()
    }
}
