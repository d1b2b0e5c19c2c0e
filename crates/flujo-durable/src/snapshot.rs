//! What a run is at one moment: it stands for all records up to there.

use std::io::Write;

use flujo_core::machine::{Finish, LaneId, Options, State, Time};
use flujo_core::store::WallTime;
use flujo_core::usage::UsageLimits;
use serde::{Deserialize, Serialize};

use crate::blobs::Parted;
use crate::entry::write;
use crate::{DurableError, Once, Recorded, Sleeping};

/// The version of the form in which snapshots and entries are written; the first byte of a snapshot.
const FORMAT: u8 = 1;
/// The same behind the definition of the pipeline that the run went on with when it had changed: behind the version comes
/// how long the definition is, in four bytes, the last one first.
const REDEFINED: u8 = 2;

/// What a run is at one moment.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Snapshot<D: Recorded> {
    /// It has not begun.
    Start(Start<D>),
    /// It is under way, or stands still.
    Machines {
        /// Its machines that have not ended, each behind the one that started it.
        machines: Vec<Saved<D>>,
        /// The number of the next machine that begins.
        next: u32,
        /// When each question that waits was asked: the number of its machine, and milliseconds since 1970 began.
        asked: Vec<(u32, WallTime)>,
        /// The limits that it went on with after it was stopped, in place of its runner's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limits: Option<UsageLimits>,
    },
    /// It has ended, and can't go on.
    Ended(Box<Finish<D>>),
}

/// What a run begins with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Start<D: Recorded> {
    /// What its machine is asked and told.
    pub options: Options,
    /// The input.
    pub input: D::Object,
    /// The context.
    pub context: D::Context,
    /// When it begins, in the run's own time.
    pub now: Time,
    /// When it must have ended.
    pub deadline: Option<Time>,
}

/// A machine that has not ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Saved<D: Recorded> {
    /// Its number.
    pub machine: u32,
    /// The machine that started it, and its name there; `None` for the run itself.
    pub parent: Option<(u32, LaneId)>,
    /// What it is.
    pub state: State<D>,
    /// What its step that is under way has recorded.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub once: Option<Once<D::Object>>,
    /// What it sleeps through, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleeping: Option<Sleeping>,
}

impl<D: Recorded> Snapshot<D> {
    /// The snapshot as bytes.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`] for a value in it that can't be written down.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DurableError> {
        let mut bytes = vec![FORMAT];
        self.put(&mut bytes)?;
        Ok(bytes)
    }

    /// The snapshot on its way into a store: as bytes, behind the definition of its pipeline if that is given.
    pub(crate) fn parted(&self, definition: Option<&[u8]>) -> Result<Parted, DurableError> {
        let mut parted = Parted::default();
        let begin = parted.small();
        match definition {
            None => begin.push(FORMAT),
            Some(definition) => {
                begin.push(REDEFINED);
                begin.extend_from_slice(&u32::try_from(definition.len()).unwrap_or(u32::MAX).to_le_bytes());
                begin.extend_from_slice(definition);
            }
        }
        self.put(&mut parted)?;
        Ok(parted)
    }

    fn put(&self, bytes: &mut impl Write) -> Result<(), DurableError> {
        let name = match self {
            Self::Start(_) => "what the run begins with",
            Self::Machines { .. } => "the state of the run",
            Self::Ended(_) => "the result of the run",
        };
        D::writing(|| write(self, name, bytes))
    }

    /// The snapshot that was written.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        match bytes.split_first() {
            Some((&FORMAT, body)) => {
                D::reading(|| rmp_serde::from_slice(body)).map_err(|error| error.to_string())
            }
            Some((&REDEFINED, _)) => match redefined(bytes) {
                Some((_, body)) => {
                    D::reading(|| rmp_serde::from_slice(body)).map_err(|error| error.to_string())
                }
                None => Err("it is cut short".to_owned()),
            },
            Some((version, _)) => Err(format!(
                "its form has the version {version}; this program knows {FORMAT} and {REDEFINED}"
            )),
            None => Err("it is empty".to_owned()),
        }
    }
}

/// The definition that a snapshot stands behind, if it stands behind one.
pub(crate) fn definition_of(bytes: &[u8]) -> Option<&[u8]> {
    redefined(bytes).map(|(definition, _)| definition)
}

fn redefined(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[REDEFINED])?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}
