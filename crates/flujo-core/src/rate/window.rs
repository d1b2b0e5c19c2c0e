//! What was let through in the last minute, and when there will be room again.

use std::collections::{BTreeMap, VecDeque};

use crate::machine::Time;

const MINUTE: f64 = 60e9;

/// Amounts of calls: no more of them together than there may be in a span of time.
///
/// Nobody here knows when a request arrives: some time between its beginning and its end. So it counts until the span has
/// passed since its end, or since a tenth of the span after its beginning where it takes longer: however unevenly requests
/// travel, no more of them arrive in one span than may.
#[derive(Debug)]
pub(super) struct Window {
    most: u64,
    span: Time,
    /// What ended or is old enough, oldest first, with the time since which it counts.
    kept: VecDeque<(Time, u64)>,
    sum: u64,
    /// How many have been forgotten: the number of the oldest that is kept.
    forgotten: u64,
    /// Calls under way, by the number of the call, which is the order in which they began.
    under_way: BTreeMap<u64, Call>,
    /// Those that aren't among what is kept yet, in order, and some that have ended.
    young: VecDeque<u64>,
}

#[derive(Debug)]
struct Call {
    began: Time,
    amount: u64,
    /// Its number among what is kept, once it is.
    kept: Option<u64>,
    /// Whether nobody will tell of its end.
    forgotten: bool,
}

impl Window {
    /// Room for `rate` a minute: for whole numbers in a minute, for others in the time that makes a whole number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a rate is above 0 and at most 1e15
    pub(super) fn new(rate: f64) -> Self {
        let most = rate.floor().max(1.0);
        Self {
            most: most as u64,
            span: (most / rate * MINUTE).round() as Time,
            kept: VecDeque::new(),
            sum: 0,
            forgotten: 0,
            under_way: BTreeMap::new(),
            young: VecDeque::new(),
        }
    }

    /// When there is room for `amount`: now, or later if nothing comes in between. What never fits is let through alone.
    pub(super) fn room(&mut self, amount: u64, now: Time) -> Time {
        self.pass_time(now);
        let amount = amount.min(self.most);
        let young = self.young.iter().filter_map(|number| self.under_way.get(number));
        let young = young.map(|call| (call.began.saturating_add(self.span / 10), call.amount));
        let mut all = self.kept.iter().copied().chain(young);
        let (mut sum, mut at) = (self.sum, now);
        while sum.saturating_add(amount) > self.most {
            let Some((since, amount)) = all.next() else { break };
            sum = sum.saturating_sub(amount);
            at = since.saturating_add(self.span);
        }
        at
    }

    /// A call of this number begins.
    pub(super) fn begin(&mut self, number: u64, amount: u64, now: Time) {
        self.sum = self.sum.saturating_add(amount);
        self.young.push_back(number);
        let call = Call {
            began: now,
            amount,
            kept: None,
            forgotten: false,
        };
        self.under_way.insert(number, call);
    }

    /// The call has ended; its amount was `actual`.
    pub(super) fn end(&mut self, number: u64, actual: u64, now: Time) {
        self.pass_time(now);
        let Some(call) = self.under_way.remove(&number) else {
            return;
        };
        match call.kept {
            None => {
                self.sum = self.sum.saturating_sub(call.amount);
                self.keep(actual, now);
            }
            Some(place) => self.correct(place, call.amount, actual, now),
        }
    }

    /// Nobody will tell of the call's end.
    pub(super) fn forget(&mut self, number: u64) {
        match self.under_way.get_mut(&number) {
            Some(call) if call.kept.is_none() => call.forgotten = true,
            _ => drop(self.under_way.remove(&number)),
        }
    }

    /// Whether nothing is counted any more.
    pub(super) fn is_idle(&mut self, now: Time) -> bool {
        self.pass_time(now);
        self.sum == 0 && self.under_way.is_empty()
    }

    fn pass_time(&mut self, now: Time) {
        while let Some(number) = self.young.front().copied() {
            let Some(call) = self.under_way.get_mut(&number) else {
                self.young.pop_front();
                continue;
            };
            let since = call.began.saturating_add(self.span / 10);
            if since > now {
                break;
            }
            let (amount, forgotten) = (call.amount, call.forgotten);
            call.kept = Some(self.forgotten + self.kept.len() as u64);
            self.young.pop_front();
            if forgotten {
                self.under_way.remove(&number);
            }
            self.kept.push_back((since, amount));
        }
        while let Some((since, amount)) = self.kept.front().copied() {
            if since.saturating_add(self.span) > now {
                break;
            }
            self.kept.pop_front();
            self.forgotten += 1;
            self.sum = self.sum.saturating_sub(amount);
        }
    }

    /// Counts what has ended. What ends almost together is kept together, as the later of them, so that there is never
    /// much.
    fn keep(&mut self, amount: u64, now: Time) {
        self.sum = self.sum.saturating_add(amount);
        match self.kept.back_mut() {
            Some((since, kept)) if now <= since.saturating_add(self.span / 4096) => {
                *since = now.max(*since);
                *kept = kept.saturating_add(amount);
            }
            _ => self.kept.push_back((now, amount)),
        }
    }

    /// What was counted at `place` as `amount` was `actual`.
    fn correct(&mut self, place: u64, amount: u64, actual: u64, now: Time) {
        let place = place.checked_sub(self.forgotten);
        let place = place.and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.kept.get_mut(place)) {
            Some((_, kept)) => {
                *kept = kept.saturating_sub(amount).saturating_add(actual);
                self.sum = self.sum.saturating_sub(amount).saturating_add(actual);
            }
            // It took so long that its minute is over: what came on top is of this one.
            None if actual > amount => self.keep(actual - amount, now),
            None => {}
        }
    }
}
