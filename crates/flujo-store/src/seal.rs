//! What is in runs, kept from whoever can read the store: encrypted, or not stored at all.
//!
//! Ids, names of pipelines, times, usage and how runs stand stay readable, so that they can be listed. Everything else is
//! a secret: what goes in and comes out, contexts, questions and answers, and what the pipeline is.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use flujo_core::store::{
    Blob, BlobId, Change, Claim, Created, Message, MessageId, NewRun, Page, Process, PurgeQuery, Record,
    RunInfo, RunQuery, RunStore, Seen, StoreError, StoreFuture, StoredRun, Summary, Worker, WorkerId,
};

/// Before what is sealed in a text.
const SEALED: &str = "sealed:";
/// How long a nonce is, in bytes. Taken by chance from so many, none comes twice.
const NONCE: usize = 24;

/// A secret of 256 bits. Without it nothing of what was stored can be read, by nobody.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// From bytes that nobody can guess.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From 64 hexadecimal digits; `None` for anything else.
    pub fn from_hex(digits: &str) -> Option<Self> {
        from_hex(digits)?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key(…)")
    }
}

/// A store whose runs hold nothing that can be read without a key, or nothing at all.
pub struct Sealed {
    inner: Arc<dyn RunStore>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Encrypted(Arc<Cipher>),
    None,
}

struct Cipher {
    cipher: XChaCha20Poly1305,
    /// For the names of blobs: they would tell, to whoever guesses it, what is in them.
    names: [u8; 32],
}

/// What a body is, and where it belongs: bytes in another's place can't be opened.
#[derive(Clone, Copy)]
enum Part<'p> {
    Definition,
    Snapshot(u64),
    Record(u64),
    Blob(&'p BlobId),
    Summary,
    Message,
}

impl Part<'_> {
    fn bound_to(self, run: &str) -> Vec<u8> {
        let (kind, place): (u8, Vec<u8>) = match self {
            Part::Definition => (0, Vec::new()),
            Part::Snapshot(through) => (1, through.to_le_bytes().to_vec()),
            Part::Record(number) => (2, number.to_le_bytes().to_vec()),
            Part::Blob(id) => (3, id.0.to_vec()),
            Part::Summary => (4, Vec::new()),
            Part::Message => (5, Vec::new()),
        };
        // The run last: it alone has no fixed length.
        [&[kind], place.as_slice(), run.as_bytes()].concat()
    }
}

impl Cipher {
    fn new(key: &Key) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(&blake3::derive_key("flujo run store, bodies", &key.0).into()),
            names: blake3::derive_key("flujo run store, names of blobs", &key.0),
        }
    }

    fn name(&self, id: &BlobId) -> BlobId {
        BlobId(*blake3::keyed_hash(&self.names, &id.0).as_bytes())
    }

    fn seal(&self, run: &str, part: Part<'_>, body: &[u8]) -> Result<Arc<[u8]>, StoreError> {
        let failed = |reason: String| StoreError::Other {
            place: "the encryption of runs".to_owned(),
            reason,
        };
        let nonce = XNonce::try_generate().map_err(|error| failed(error.to_string()))?;
        let payload = Payload {
            msg: body,
            aad: &part.bound_to(run),
        };
        let sealed = self
            .cipher
            .encrypt(&nonce, payload)
            .map_err(|error| failed(error.to_string()))?;
        Ok([nonce.as_slice(), &sealed].concat().into())
    }

    /// `None` when it was sealed with another key, for another place, or not at all.
    fn open(&self, run: &str, part: Part<'_>, body: &[u8]) -> Option<Arc<[u8]>> {
        let (nonce, sealed) = body.split_at_checked(NONCE)?;
        let payload = Payload {
            msg: sealed,
            aad: &part.bound_to(run),
        };
        let nonce = XNonce::try_from(nonce).ok()?;
        self.cipher.decrypt(&nonce, payload).ok().map(Into::into)
    }
}

impl Content {
    /// What is stored of a body.
    fn kept(&self, run: &str, part: Part<'_>, body: &[u8]) -> Result<Arc<[u8]>, StoreError> {
        match self {
            Self::Encrypted(cipher) => cipher.seal(run, part, body),
            Self::None => Ok(Arc::default()),
        }
    }

    fn blob(&self, run: &str, blob: &Blob) -> Result<Option<Blob>, StoreError> {
        match self {
            Self::Encrypted(cipher) => {
                let id = cipher.name(&blob.id);
                let body = cipher.seal(run, Part::Blob(&id), &blob.body)?;
                Ok(Some(Blob { id, body }))
            }
            Self::None => Ok(None),
        }
    }

    fn summary(&self, run: &str, mut summary: Summary) -> Result<Summary, StoreError> {
        summary.message = match (self, summary.message) {
            (Self::Encrypted(cipher), Some(message)) => {
                let sealed = cipher.seal(run, Part::Summary, message.as_bytes())?;
                Some(format!("{SEALED}{}", to_hex(&sealed)).into())
            }
            _ => None,
        };
        Ok(summary)
    }

    fn new_run(&self, new: &NewRun) -> Result<NewRun, StoreError> {
        let blobs = new
            .blobs
            .iter()
            .filter_map(|blob| self.blob(&new.id, blob).transpose());
        Ok(NewRun {
            definition: self.kept(&new.id, Part::Definition, &new.definition)?,
            snapshot: self.kept(&new.id, Part::Snapshot(0), &new.snapshot)?,
            blobs: blobs.collect::<Result<_, _>>()?,
            ..new.clone()
        })
    }

    /// The name under which a blob is kept.
    fn name(&self, blob: &BlobId) -> BlobId {
        match self {
            Content::Encrypted(cipher) => cipher.name(blob),
            Content::None => *blob,
        }
    }

    fn changes(&self, run: &str, changes: Vec<Change>) -> Result<Vec<Change>, StoreError> {
        let change = |change| match change {
            Change::Append(records) => {
                let record = |record: Record| {
                    let body = self.kept(run, Part::Record(record.number), &record.body)?;
                    Ok(Record { body, ..record })
                };
                let records = records
                    .into_iter()
                    .map(record)
                    .collect::<Result<_, StoreError>>()?;
                Ok(Some(Change::Append(records)))
            }
            Change::Snapshot { through, body } => {
                let body = self.kept(run, Part::Snapshot(through), &body)?;
                Ok(Some(Change::Snapshot { through, body }))
            }
            Change::Blob(blob) => Ok(self.blob(run, &blob)?.map(Change::Blob)),
            Change::Keep(kept) => Ok(Some(Change::Keep(
                kept.iter().map(|blob| self.name(blob)).collect(),
            ))),
            Change::Summary(summary) => self
                .summary(run, summary)
                .map(|summary| Some(Change::Summary(summary))),
            other @ (Change::Taken(_) | Change::Release | Change::Delete) => Ok(Some(other)),
        };
        changes
            .into_iter()
            .filter_map(|one| change(one).transpose())
            .collect()
    }

    /// A body as it was given.
    fn opened(
        &self,
        run: &Arc<str>,
        place: &str,
        part: Part<'_>,
        body: &[u8],
    ) -> Result<Arc<[u8]>, StoreError> {
        let reason = match self {
            Self::Encrypted(cipher) => match cipher.open(run, part, body) {
                Some(body) => return Ok(body),
                None if body.is_empty() => NOT_STORED,
                None => "it was sealed with another key, or not at all; give the key it was stored with",
            },
            Self::None if body.is_empty() => NOT_STORED,
            // Of a time when it was stored.
            Self::None => return Ok(body.into()),
        };
        Err(StoreError::Withheld {
            run: run.clone(),
            place: place.to_owned(),
            reason: reason.to_owned(),
        })
    }

    fn info(&self, mut info: RunInfo) -> RunInfo {
        // A list shows what it can: what can't be opened is left out.
        let sealed = info
            .summary
            .message
            .as_deref()
            .and_then(|message| message.strip_prefix(SEALED));
        if let Some(sealed) = sealed {
            let opened = match self {
                Self::Encrypted(cipher) => {
                    from_hex(sealed).and_then(|sealed| cipher.open(&info.id, Part::Summary, &sealed))
                }
                Self::None => None,
            };
            let text = opened.and_then(|text| std::str::from_utf8(&text).ok().map(Arc::from));
            info.summary.message = text;
        }
        info
    }
}

const NOT_STORED: &str = "its content was not stored, so it can't go on; run it again from the beginning";

impl Sealed {
    /// Everything is encrypted (XChaCha20-Poly1305), bound to its run and its place.
    pub fn encrypted(inner: Arc<dyn RunStore>, key: &Key) -> Self {
        let content = Content::Encrypted(Arc::new(Cipher::new(key)));
        Self { inner, content }
    }

    /// Nothing is stored but that there are runs, and how they stand. Loading one says so
    /// ([`StoreError::Withheld`]).
    pub fn without_content(inner: Arc<dyn RunStore>) -> Self {
        let content = Content::None;
        Self { inner, content }
    }
}

/// Goes on with what came, on the thread of whoever waits for it.
fn then<T: Send + 'static, U: 'static>(
    asked: StoreFuture<T>,
    next: impl FnOnce(T) -> Result<U, StoreError> + Send + 'static,
) -> StoreFuture<U> {
    Box::pin(async move { next(asked.await?) })
}

fn failed<T: Send + 'static>(error: StoreError) -> StoreFuture<T> {
    Box::pin(std::future::ready(Err(error)))
}

impl RunStore for Sealed {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn create(&self, run: NewRun, worker: Option<WorkerId>) -> StoreFuture<Created> {
        let sealed = match self.content.new_run(&run) {
            Ok(sealed) => sealed,
            Err(error) => return failed(error),
        };
        let content = self.content.clone();
        then(self.inner.create(sealed, worker), move |created| {
            Ok(match created {
                Created::Exists(info) => Created::Exists(Box::new(content.info(*info))),
                new @ Created::New(_) => new,
            })
        })
    }

    fn claim(&self, run: Arc<str>, worker: WorkerId, seen: Seen) -> StoreFuture<Claim> {
        self.inner.claim(run, worker, seen)
    }

    fn write(&self, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()> {
        match self.content.changes(&claim.run, changes) {
            Ok(changes) => self.inner.write(claim, changes),
            Err(error) => failed(error),
        }
    }

    fn write_now(&self, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()> {
        match self.content.changes(&claim.run, changes) {
            Ok(changes) => self.inner.write_now(claim, changes),
            Err(error) => failed(error),
        }
    }

    fn info(&self, run: Arc<str>) -> StoreFuture<Option<RunInfo>> {
        let content = self.content.clone();
        then(self.inner.info(run), move |info| {
            Ok(info.map(|info| content.info(info)))
        })
    }

    fn load(&self, run: Arc<str>) -> StoreFuture<StoredRun> {
        let (content, place) = (self.content.clone(), self.place());
        then(self.inner.load(run), move |stored| {
            let run = stored.info.id.clone();
            let open = |part, body: &[u8]| content.opened(&run, &place, part, body);
            let record = |record: &Record| {
                let body = open(Part::Record(record.number), &record.body)?;
                Ok(Record { body, ..*record })
            };
            Ok(StoredRun {
                definition: open(Part::Definition, &stored.definition)?,
                snapshot: open(Part::Snapshot(stored.through), &stored.snapshot)?,
                records: stored
                    .records
                    .iter()
                    .map(record)
                    .collect::<Result<_, StoreError>>()?,
                info: content.info(stored.info),
                through: stored.through,
            })
        })
    }

    fn blob(&self, run: Arc<str>, blob: BlobId) -> StoreFuture<Arc<[u8]>> {
        let (content, place) = (self.content.clone(), self.place());
        let name = content.name(&blob);
        then(self.inner.blob(run.clone(), name), move |body| {
            content.opened(&run, &place, Part::Blob(&name), &body)
        })
    }

    fn list(&self, query: RunQuery) -> StoreFuture<Page> {
        let content = self.content.clone();
        then(self.inner.list(query), move |page| {
            let runs = page.runs.into_iter().map(|info| content.info(info)).collect();
            Ok(Page { runs, ..page })
        })
    }

    fn purge(&self, query: PurgeQuery) -> StoreFuture<u64> {
        self.inner.purge(query)
    }

    fn post(&self, run: Arc<str>, message: Arc<[u8]>) -> StoreFuture<MessageId> {
        match &self.content {
            Content::Encrypted(cipher) => match cipher.seal(&run, Part::Message, &message) {
                Ok(sealed) => self.inner.post(run, sealed),
                Err(error) => failed(error),
            },
            Content::None => failed(StoreError::Withheld {
                reason: "content isn't stored, so nothing can be left for it; tell the process that runs it"
                    .to_owned(),
                place: self.place(),
                run,
            }),
        }
    }

    fn messages(&self, worker: WorkerId) -> StoreFuture<Vec<Message>> {
        let (content, place) = (self.content.clone(), self.place());
        then(self.inner.messages(worker), move |messages| {
            let open = |message: Message| {
                let body = content.opened(&message.run, &place, Part::Message, &message.body)?;
                Ok(Message { body, ..message })
            };
            messages.into_iter().map(open).collect()
        })
    }

    fn enlist(&self, process: Process) -> StoreFuture<WorkerId> {
        self.inner.enlist(process)
    }

    fn beat(&self, worker: WorkerId) -> StoreFuture<()> {
        self.inner.beat(worker)
    }

    fn dismiss(&self, worker: WorkerId, seen: Option<u64>) -> StoreFuture<bool> {
        self.inner.dismiss(worker, seen)
    }

    fn workers(&self) -> StoreFuture<Vec<Worker>> {
        self.inner.workers()
    }

    fn flush(&self) -> StoreFuture<()> {
        self.inner.flush()
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Sealed")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string doesn't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?))
        .collect()
}
