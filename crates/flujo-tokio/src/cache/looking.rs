//! A look for a result: at once in memory, else after somebody else has made it or the second tier was asked; and what is
//! done with a result that was made.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll, ready};

use flujo_core::agent::BoxFuture;
use flujo_core::cache::{Found, Kept, ReadSet, Uncached};
use flujo_core::context::Reads;
use flujo_core::machine::{CacheTicket, CallId};
use flujo_core::plan::NodeId;
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::tier::{Hears, encode, encode_reads};
use super::{Cache, Held, Inner, Output, Question, Seat, Told};

/// What a look came to.
pub(crate) enum Looked {
    Hit(Kept<Value>),
    /// It is to be made.
    Lead(Held, Question),
}

/// A result that a step of a machine makes.
pub(crate) struct Lead {
    pub(crate) ticket: CacheTicket,
    pub(crate) held: Held,
    pub(crate) question: Question,
    /// Notes what the step reads of the context.
    pub(crate) reads: Option<Arc<Reads>>,
}

/// A look that takes its time.
pub(crate) struct Look {
    pub(crate) call: CallId,
    pub(crate) node: NodeId,
    pub(crate) looking: BoxFuture<'static, Looked>,
    pub(crate) limit: Option<Pin<Box<Sleep>>>,
}

impl Look {
    /// Ready with what it came to; with `None` when its time is up.
    pub(crate) fn poll(&mut self, poller: &mut Poller<'_>) -> Poll<Option<Looked>> {
        if let Poll::Ready(looked) = self.looking.as_mut().poll(poller) {
            return Poll::Ready(Some(looked));
        }
        match &mut self.limit {
            Some(limit) => {
                ready!(limit.as_mut().poll(poller));
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    }
}

/// Looks for a result. `Err` is a look that takes its time.
pub(crate) fn look(
    cache: &Cache,
    question: Question,
    hears: &Arc<impl Hears>,
) -> Result<Looked, BoxFuture<'static, Looked>> {
    match look_now(&cache.0, &question) {
        Now::Hit(kept) => Ok(cache.0.handed_out(kept)),
        Now::Lead(held) if cache.0.tier.is_none() || !question.is_known => Ok(Looked::Lead(held, question)),
        now => {
            let (cache, hears) = (Arc::clone(&cache.0), Arc::clone(hears));
            Err(Box::pin(
                async move { go_on(cache, question, now, &*hears).await },
            ))
        }
    }
}

enum Now {
    Hit(Kept<Output>),
    Lead(Held),
    Wait(oneshot::Receiver<Told>),
}

fn look_now(cache: &Arc<Inner>, question: &Question) -> Now {
    let mut receiver = None;
    let seat = || {
        let (sender, waits) = oneshot::channel();
        receiver = Some(waits);
        let cache = Arc::clone(cache);
        Seat { cache, sender }
    };
    let found = cache.steps.look(question.wanted(), cache.now(), seat);
    match (found, receiver) {
        (Found::Kept(kept), _) => Now::Hit(kept),
        (Found::Lead(turn), _) => Now::Lead(Held {
            cache: Arc::clone(cache),
            turn: Some(turn),
        }),
        (Found::UnderWay, Some(receiver)) => Now::Wait(receiver),
        // Whoever waits has a seat.
        (Found::UnderWay, None) => Now::Wait(oneshot::channel().1),
    }
}

async fn go_on(cache: Arc<Inner>, question: Question, mut now: Now, hears: &dyn Hears) -> Looked {
    loop {
        now = match now {
            Now::Hit(kept) => return cache.handed_out(kept),
            Now::Lead(held) => {
                return match elsewhere(&cache, &question, held, hears).await {
                    Ok(kept) => cache.handed_out(kept),
                    Err(held) => Looked::Lead(held, question),
                };
            }
            Now::Wait(receiver) => match receiver.await {
                Ok(Told::Landed(landed)) => match landed.answers(question.wanted()) {
                    Some(kept) => {
                        cache.steps.count_hit();
                        return cache.handed_out(kept);
                    }
                    None => look_now(&cache, &question),
                },
                // Whoever had the turn before has asked the second tier.
                Ok(Told::Turn(held)) => {
                    cache.steps.count_miss();
                    return Looked::Lead(held, question);
                }
                Err(_) => look_now(&cache, &question),
            },
        };
    }
}

/// Looks in the second tier, and keeps in memory what is found there. Whoever waits gets it too.
async fn elsewhere(
    cache: &Arc<Inner>,
    question: &Question,
    mut held: Held,
    hears: &dyn Hears,
) -> Result<Kept<Output>, Held> {
    let Some(tier) = cache.tier.as_ref().filter(|_| question.is_known) else {
        return Err(held);
    };
    let sets = match question.context {
        Some(_) => tier.reads(question.primary, hears).await,
        None => vec![ReadSet::default()],
    };
    for reads in sets {
        let Ok(key) = question.wanted().key(&reads) else {
            continue;
        };
        let Some((kept, good_for)) = tier.get(key, question.codecs(), hears).await else {
            continue;
        };
        let Some(turn) = held.turn.take() else { break };
        let expires = cache.expires(good_for);
        cache.steps.count_found_elsewhere();
        let kept = Output::kept(kept);
        // The key was just made of the same.
        let _ = cache
            .steps
            .put(turn, question.wanted(), reads, kept.clone(), expires, cache.now());
        return Ok(kept);
    }
    Err(held)
}

/// Keeps a result that was made, here and in the second tier.
pub(crate) fn put(lead: Lead, output: &Value, usage: Usage, hears: &Arc<impl Hears>) -> Result<(), Uncached> {
    let Lead {
        mut held,
        question,
        reads,
        ..
    } = lead;
    let Some(output) = held.cache.isolated(output) else {
        held.release(Uncached::Output);
        return Err(Uncached::Output);
    };
    let Some(turn) = held.turn.take() else {
        return Ok(());
    };
    let cache = Arc::clone(&held.cache);
    let ttl = match question.ttl {
        Some(ttl) => Some(ttl).filter(|ttl| !ttl.is_zero()),
        None => cache.ttl,
    };
    let reads = reads.map(|reads| reads.seen()).unwrap_or_default();
    let kept = Kept { output, usage };
    let tier = cache.tier.as_ref().filter(|_| question.is_known);
    let bytes = tier.and_then(|_| encode(&kept));
    let (kept, expires, now) = (Output::kept(kept), cache.expires(ttl), cache.now());
    let stored = cache
        .steps
        .put(turn, question.wanted(), reads, kept, expires, now)?;
    if let (Some(tier), Some(bytes)) = (tier, bytes) {
        let mut entries = vec![(stored.key, bytes)];
        // Nobody would find the result without what it depends on.
        let reads = question
            .context
            .is_some()
            .then(|| cache.steps.reads_of(question.wanted()));
        let sets = stored.reads.or(reads).and_then(|sets| encode_reads(&sets));
        entries.extend(sets.map(|sets| (question.primary, sets)));
        let hears: Arc<dyn Hears> = Arc::clone(hears) as Arc<dyn Hears>;
        tier.put(entries, ttl, hears);
    }
    Ok(())
}
