//! What a machine asks of the cache, and what it makes for it.

use std::task::{Context as Poller, Poll};

use flujo_core::cache::{Kept, Uncached};
use flujo_core::config::{Part, contained};
use flujo_core::context::Context;
use flujo_core::machine::{CacheGet, CacheLead, CachePut, CacheTicket, CallId, Event as Happened};
use flujo_core::plan::NodeId;
use flujo_core::usage::Usage;
use flujo_core::value::Value;

use super::Driver;
use crate::cache::{Lead, Look, Looked, look, put, question, ticket};
use crate::domain::Tokio;

/// What only drivers of cached steps have. Results that were to be made are handed on when it is dropped.
#[derive(Default)]
pub(super) struct Cached {
    look: Option<Look>,
    leads: Vec<Lead>,
}

impl Cached {
    /// The machine stands still: others make the results.
    pub(super) fn stand_still(self) {
        for lead in self.leads {
            lead.held.release(Uncached::Paused);
        }
    }
}

impl Driver {
    pub(super) fn cache_get(&mut self, get: &CacheGet<Tokio>) {
        let (shared, plan) = (&self.shared, &self.shared.plan);
        let history = self.machine.history();
        if shared.analysed.reads_steps {
            self.outputs.take_in(history, plan);
        }
        let caches = &shared.runner.caches;
        let (call, node) = (get.call, get.node);
        if let Some(finds) = &shared.runner.finds {
            let (found, at) = (finds(&shared.place_in(&self.machine, node, 0)), shared.now());
            return self.machine.handle(match found {
                Some((output, saved)) => Happened::CacheHit {
                    call,
                    output,
                    saved,
                    at,
                },
                None => Happened::CacheMiss { call, lead: None, at },
            });
        }
        let looking = shared.contain(Part::Cache, shared.nearest(node), |twins| {
            let cache = caches.of(twins, shared.runner.config());
            match question(caches, (plan, history), &self.outputs.value(), get) {
                Err(reason) => {
                    cache.uncached(&plan.node(node).name, reason);
                    None
                }
                Ok(question) => Some(look(cache, question, &shared.runner)),
            }
        });
        match looking {
            None => {
                let (lead, at) = (None, shared.now());
                self.machine.handle(Happened::CacheMiss { call, lead, at });
            }
            Some(Ok(looked)) => self.looked(call, node, looked),
            Some(Err(looking)) => {
                let limit = get.deadline.and_then(|deadline| shared.instant(deadline));
                let limit = limit.map(|limit| Box::pin(tokio::time::sleep_until(limit)));
                self.cached.get_or_insert_default().look = Some(Look {
                    call,
                    node,
                    looking,
                    limit,
                });
            }
        }
    }

    fn looked(&mut self, call: CallId, node: NodeId, looked: Looked) {
        let at = self.shared.now();
        let hit = matches!(looked, Looked::Hit(_));
        self.shared.looked_up(node, hit);
        let event = match looked {
            Looked::Hit(Kept { output, usage }) => Happened::CacheHit {
                call,
                output,
                saved: usage,
                at,
            },
            Looked::Lead(held, question) => {
                let ticket = ticket();
                let (context, reads) = question.context.as_ref().map(Context::watched).unzip();
                self.cached.get_or_insert_default().leads.push(Lead {
                    ticket,
                    held,
                    question,
                    reads,
                });
                let lead = Some(CacheLead { ticket, context });
                Happened::CacheMiss { call, lead, at }
            }
        };
        self.machine.handle(event);
    }

    fn take_lead(&mut self, ticket: CacheTicket) -> Option<Lead> {
        let leads = &mut self.cached.as_mut()?.leads;
        let place = leads.iter().position(|lead| lead.ticket == ticket)?;
        Some(leads.swap_remove(place))
    }

    pub(super) fn cache_put(&mut self, put_in: &CachePut<Tokio>) {
        if let Some(lead) = self.take_lead(put_in.ticket) {
            let (output, usage): (&Value, Usage) = (&put_in.output, put_in.usage);
            // Should it panic, the result isn't kept, whoever waits for it makes it, and the run has it all the same.
            match contained(|| put(lead, output, usage, &self.shared.runner)) {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => crate::cache::warn(&self.shared.plan.node(put_in.node).name, reason),
                Err(reason) => self.shared.gave_way(Part::Cache, &reason),
            }
        }
    }

    pub(super) fn cache_release(&mut self, ticket: CacheTicket, reason: Uncached) {
        if let Some(lead) = self.take_lead(ticket) {
            lead.held.release(reason);
        }
    }

    /// Goes on with a look; ready when the machine has been told what came of it.
    pub(super) fn poll_look(&mut self, poller: &mut Poller<'_>) -> Poll<()> {
        let Some(look) = self.cached.as_mut().and_then(|cached| cached.look.as_mut()) else {
            return Poll::Pending;
        };
        let Poll::Ready(looked) = look.poll(poller) else {
            return Poll::Pending;
        };
        if let Some(Look { call, node, .. }) = self.cached.as_mut().and_then(|cached| cached.look.take()) {
            if let Some(looked) = looked {
                self.looked(call, node, looked);
            } else {
                let (usage, at) = (Usage::ZERO, self.shared.now());
                self.machine.handle(Happened::TimedOut { call, usage, at });
            }
        }
        Poll::Ready(())
    }

    /// Gives a look up, if this is one.
    pub(super) fn cancel_look(&mut self, call: CallId) {
        let look = self.cached.as_mut().map(|cached| &mut cached.look);
        if look
            .and_then(|look| look.take_if(|look| look.call == call))
            .is_some()
        {
            self.called_off(call);
        }
    }
}

impl crate::cache::Hears for crate::runner::Running {
    fn degraded(&self, reason: &str) {
        let _ = Self::degraded(self, Part::Cache, reason);
    }

    fn recovered(&self) {
        self.cache_recovered();
    }
}
