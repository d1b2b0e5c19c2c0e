//! A stored run and what it is made of.

use std::fmt;
use std::sync::Arc;

use super::WorkerId;
use crate::usage::Usage;

/// Milliseconds since 1970 began (UTC), by the clock of whoever wrote it. For people and for due times only.
pub type WallTime = i64;

/// How a stored run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunStatus {
    /// It waits for a worker and has not begun.
    Queued,
    /// It has begun and not ended; whether a worker has it, its owner tells.
    Running,
    /// It waits for an answer.
    Paused,
    /// It ended well.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled, and can go on.
    Cancelled,
    /// A limit stopped it, and it can go on with a higher one.
    LimitExceeded,
}

impl RunStatus {
    /// Whether it goes on by itself no more and waits for nobody.
    pub fn has_ended(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Cancelled | Self::LimitExceeded
        )
    }

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Paused,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::LimitExceeded,
    ];

    /// Its name: `queued`, `running`, `paused`, `completed`, `failed`, `cancelled`, `limit_exceeded`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::LimitExceeded => "limit_exceeded",
        }
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A run that is to begin.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// Its id, one of its kind in the store.
    pub id: Arc<str>,
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// What the pipeline was when the run began, as bytes whose meaning a store doesn't know; told again with the run.
    pub definition: Arc<[u8]>,
    /// When.
    pub created: WallTime,
    /// The run this one was forked from.
    pub forked_from: Option<Arc<str>>,
    /// How it stands: queued, or running.
    pub status: RunStatus,
    /// Its first snapshot: what it starts with, after record 0, which no run has.
    pub snapshot: Arc<[u8]>,
    /// Blobs that the snapshot refers to.
    pub blobs: Vec<Blob>,
}

/// One record of a run's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number: 1 for a run's first.
    pub number: u64,
    /// What happened.
    pub body: Arc<[u8]>,
}

/// Names bytes by what they are: their BLAKE3 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Bytes that are kept beside a run's records because they are large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub id: BlobId,
    /// Its bytes.
    pub body: Arc<[u8]>,
}

impl Blob {
    /// Bytes with their name.
    pub fn of(body: Arc<[u8]>) -> Self {
        Self {
            id: BlobId(*blake3::hash(&body).as_bytes()),
            body,
        }
    }
}

/// How a run stands, for lists; written beside its log.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How it stands.
    pub status: RunStatus,
    /// When this was so.
    pub updated: WallTime,
    /// When somebody is to look at it again: a question's time is over then, or a retry due.
    pub due: Option<WallTime>,
    /// Steps that have ended, each time they ran.
    pub steps: u64,
    /// What has been used.
    pub usage: Usage,
    /// For people: why it failed, what it asks. Without content where content isn't stored.
    pub message: Option<Arc<str>>,
}

/// Who has a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The worker.
    pub worker: WorkerId,
    /// Its process, in words.
    pub process: Arc<str>,
    /// Its counter.
    pub beats: u64,
}

/// What is known of a run without its contents.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// Its id.
    pub id: Arc<str>,
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// When it began.
    pub created: WallTime,
    /// The run it was forked from.
    pub forked_from: Option<Arc<str>>,
    /// How it stands.
    pub summary: Summary,
    /// Who has it.
    pub owner: Option<Owner>,
    /// The number of its last record.
    pub last_record: u64,
    /// How many bytes its snapshot, records and blobs take, without what the store adds.
    pub bytes: u64,
}

/// A run with its contents.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRun {
    /// What is known of it.
    pub info: RunInfo,
    /// As given to [`NewRun::definition`].
    pub definition: Arc<[u8]>,
    /// The number of the last record that is in the snapshot.
    pub through: u64,
    /// Its snapshot.
    pub snapshot: Arc<[u8]>,
    /// What came after it, in order.
    pub records: Vec<Record>,
}

/// Which runs are looked for. The default: all, 50 a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunQuery {
    /// With one of these; empty: with any.
    pub statuses: Vec<RunStatus>,
    /// Of the pipeline of this name.
    pub pipeline: Option<Arc<str>>,
    /// Created before.
    pub created_before: Option<WallTime>,
    /// Created at this time or later.
    pub created_from: Option<WallTime>,
    /// Due at this time or before.
    pub due_by: Option<WallTime>,
    /// Of whoever owns it now: `Some(None)` for nobody.
    pub owner: Option<Option<WorkerId>>,
    /// Only those for which something has been left that nobody has dealt with yet.
    pub with_messages: bool,
    /// Behind this place, which a page told.
    pub after: Option<(WallTime, Arc<str>)>,
    /// Which come first.
    pub order: Order,
    /// How many at most.
    pub limit: u32,
}

/// In which order runs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The newest first, those of one time by id: for people.
    #[default]
    Newest,
    /// The other way round: for whoever works on them.
    Oldest,
}

impl Default for RunQuery {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            pipeline: None,
            created_before: None,
            created_from: None,
            due_by: None,
            owner: None,
            with_messages: false,
            after: None,
            order: Order::Newest,
            limit: 50,
        }
    }
}

/// A page of runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The runs, in the order that was asked for.
    pub runs: Vec<RunInfo>,
    /// Where the next page begins, when there is one.
    pub next: Option<(WallTime, Arc<str>)>,
}

/// Which runs are deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PurgeQuery {
    /// This one.
    pub run: Option<Arc<str>>,
    /// Of the pipeline of this name.
    pub pipeline: Option<Arc<str>>,
    /// With one of these; empty: those that ended (completed, failed, cancelled, limit exceeded).
    pub statuses: Vec<RunStatus>,
    /// Updated before.
    pub updated_before: Option<WallTime>,
    /// All but this many of the newest that fit the rest.
    pub keep: Option<u64>,
    /// At most so many, so that others don't wait long for one purge of very many.
    pub at_most: Option<u32>,
}
