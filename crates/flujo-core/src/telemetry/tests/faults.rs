//! Recorders that panic.

use std::panic::resume_unwind;
use std::sync::Arc;

use super::host::{Does, Host, Toy, branches, pipeline, retried, step};
use super::{in_order, start};
use crate::machine::{History, LanePlace, Notice, Time};
use crate::stats::TelemetryStats;
use crate::telemetry::{
    AgentCall, Ending, OptimizedTelemetry, Recorder, RunStart, Span, SpanIds, SpanQueue, SpanSettings,
    Telemetry,
};

/// Its recorders panic at this one of the turns in which they read, from 1, before they do anything.
struct Breaks {
    telemetry: OptimizedTelemetry,
    at_turn: u32,
}

impl Telemetry<Toy> for Breaks {
    fn queue(&self) -> &Arc<SpanQueue> {
        Telemetry::<Toy>::queue(&self.telemetry)
    }

    fn record(&self, run: &RunStart, ids: SpanIds, history: &History<Toy>) -> Box<dyn Recorder<Toy>> {
        Box::new(Breaking {
            recorder: self.telemetry.record(run, ids, history),
            at_turn: self.at_turn,
            turns: 0,
        })
    }

    fn statistics(&self) -> TelemetryStats {
        Telemetry::<Toy>::statistics(&self.telemetry)
    }
}

struct Breaking {
    recorder: Box<dyn Recorder<Toy>>,
    at_turn: u32,
    turns: u32,
}

impl Breaking {
    fn turn(&mut self) -> &mut dyn Recorder<Toy> {
        self.turns += 1;
        if self.turns == self.at_turn {
            resume_unwind(Box::new("a defect"));
        }
        &mut *self.recorder
    }
}

impl Recorder<Toy> for Breaking {
    fn hears(&self) -> bool {
        self.recorder.hears()
    }

    fn notice(&mut self, notice: &Notice<Toy>) {
        self.turn().notice(notice);
    }

    fn called(&mut self, call: AgentCall) {
        self.recorder.called(call);
    }

    fn waits(&mut self, history: &History<Toy>, at: Time) {
        self.turn().waits(history, at);
    }

    fn lane(
        &self,
        place: &LanePlace,
        around: &History<Toy>,
        lane: &History<Toy>,
        now: Time,
    ) -> Box<dyn Recorder<Toy>> {
        Box::new(Self {
            recorder: self.recorder.lane(place, around, lane, now),
            at_turn: self.at_turn,
            turns: 0,
        })
    }

    fn end(&mut self, end: &Ending<'_, Toy>) -> u64 {
        self.turn().end(end)
    }
}

fn spans_with(at_turn: u32) -> Vec<Span> {
    let queue = Arc::new(SpanQueue::new(SpanSettings::default()));
    let telemetry = Breaks {
        telemetry: OptimizedTelemetry::new(Arc::clone(&queue)),
        at_turn,
    };
    let mut host = Host::new(pipeline(|p| {
        let lanes = vec![
            ("a", step(p, "left", Does::Add(1))),
            ("b", step(p, "right", Does::Add(2))),
        ];
        vec![
            step(p, "first", Does::Add(1)),
            branches(p, "lanes", lanes),
            retried(p, "last", Does::FailTimes(1, 1), 1),
        ]
    }));
    let run = start("run-1", &host);
    host.run(&telemetry, &run, 1);
    in_order(queue.take(usize::MAX))
}

#[test]
fn a_recorder_that_panics_at_any_of_its_turns_reads_what_it_has_not_read_at_the_next_one() {
    let whole = spans_with(0);
    assert!(whole.len() > 8, "{whole:?}");
    for at_turn in 1..8 {
        assert_eq!(spans_with(at_turn), whole, "broken at turn {at_turn}");
    }
}
