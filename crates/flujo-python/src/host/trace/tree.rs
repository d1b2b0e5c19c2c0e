//! A run that has ended as a tree of spans, made of its history when somebody looks: the same spans that an exporter gets.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use flujo_core::machine::{History, LanePlace, Time};
use flujo_core::telemetry::{
    Ending, OptimizedTelemetry, Recorder, RunStart, SampleRate, Span, SpanId, SpanQueue, SpanSettings,
    Telemetry,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::host::domain::{Finish, Python3};
use crate::host::names;
use crate::host::planning::PlanWithSteps;
use crate::telemetry::attributes_to_dict;

/// The `TraceNode` of a run; `epoch` is the world's time at the run's time 0, in nanoseconds since the Unix epoch.
pub(crate) fn tree<'py>(
    py: Python<'py>,
    plan: &PlanWithSteps,
    finish: &Finish,
    epoch: u64,
) -> PyResult<Bound<'py, PyAny>> {
    let spans = spans_of(plan, finish, epoch);
    let mut below: HashMap<Option<SpanId>, Vec<usize>> = HashMap::new();
    for (place, span) in spans.iter().enumerate() {
        below.entry(span.parent).or_default().push(place);
    }
    for children in below.values_mut() {
        children.sort_by_key(|place| spans[*place].started);
    }
    let list = PyList::empty(py);
    // Each with the place of its parent in the list, the latest first.
    let mut waiting: Vec<(i64, usize)> = below
        .get(&None)
        .into_iter()
        .flatten()
        .map(|place| (-1, *place))
        .collect();
    while let Some((parent, place)) = waiting.pop() {
        let span = &spans[place];
        let own = i64::try_from(list.len()).unwrap_or(i64::MAX);
        list.append((
            parent,
            &*span.name,
            span.kind.name(),
            span.status.name(),
            seconds(span.started),
            seconds(span.ended),
            attributes(py, span)?,
        ))?;
        let children = below.get(&Some(span.context.span));
        waiting.extend(children.into_iter().flatten().rev().map(|place| (own, *place)));
    }
    names::trace_tree(py)?.call1((list,))
}

fn spans_of(plan: &PlanWithSteps, finish: &Finish, epoch: u64) -> Vec<Span> {
    let queue = Arc::new(SpanQueue::new(SpanSettings {
        capacity: usize::MAX,
        ..SpanSettings::default()
    }));
    let none = History::default();
    let began = times(finish).map_or(0, |(began, _)| began);
    let start = RunStart {
        run: Arc::from(""),
        names: Arc::clone(plan.span_names()),
        parent: None,
        resumed: false,
        wall: epoch.saturating_add(began),
        at: began,
    };
    let telemetry = OptimizedTelemetry::new(Arc::clone(&queue));
    let recorder = telemetry.record(&start, start.ids(SampleRate::ALL), &none);
    let mut waiting: VecDeque<(Box<dyn Recorder<Python3>>, &Finish, Time)> = VecDeque::new();
    waiting.push_back((recorder, finish, began));
    while let Some((mut recorder, finish, began)) = waiting.pop_front() {
        for (place, record) in (0..).zip(&finish.history.records) {
            for (index, lane) in (0..).zip(record.lanes()) {
                let Some(below) = lane.finish.as_deref() else {
                    continue;
                };
                let place = LanePlace {
                    parent: None,
                    node: record.node,
                    record: place,
                    index,
                };
                let began = times(below).map_or(record.started, |(began, _)| began);
                let recorder = recorder.lane(&place, &finish.history, &none, began);
                waiting.push_back((recorder, below, began));
            }
        }
        let ended = times(finish).map_or(began, |(_, ended)| ended);
        recorder.end(&Ending::of(finish, ended));
    }
    queue.take(usize::MAX)
}

/// When the first step of a run or lane began, and when the last one ended.
fn times(finish: &Finish) -> Option<(Time, Time)> {
    let records = &finish.history.records;
    let ended = records.iter().map(|record| record.ended).max()?;
    Some((records.first()?.started, ended))
}

fn attributes<'py>(py: Python<'py>, span: &Span) -> PyResult<Bound<'py, PyDict>> {
    let attributes = attributes_to_dict(py, span)?;
    // The result belongs to a run whose id is known.
    attributes.del_item(intern!(py, "flujo.run.id"))?;
    Ok(attributes)
}

#[allow(clippy::cast_precision_loss)] // a float of seconds is what Python counts time in
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
