//! The form in which nested things are saved: histories and the places of lanes are written as flat lists, so that
//! lanes in lanes cost neither call stack nor the nesting that a text format allows (JSON readers stop at 128).

use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Domain, Finish, History, LanePlace, LaneRecord, Outcome, Record};
use crate::plan::NodeId;
use crate::usage::Usage;

/// A lane, with where it belongs: history 0 is the outermost one, the others count as the lanes that have one do.
#[derive(Serialize, Deserialize)]
#[serde(bound(
    serialize = "R: Serialize, O: Serialize, C: Serialize",
    deserialize = "R: Deserialize<'de>, O: Deserialize<'de>, C: Deserialize<'de>"
))]
struct Lane<R, O, C> {
    history: u32,
    record: u32,
    name: Arc<str>,
    finish: Option<LaneFinish<R, O, C>>,
}

#[derive(Serialize, Deserialize)]
struct LaneFinish<R, O, C> {
    outcome: O,
    context: C,
    usage: Usage,
    records: R,
}

type Written<'a, D> = Lane<&'a [Record<D>], &'a Outcome<D>, &'a <D as Domain>::Context>;
type Read<D> = Lane<Vec<Record<D>>, Outcome<D>, <D as Domain>::Context>;

impl<D: Domain> Serialize for History<D>
where
    D::Object: Serialize,
    D::Context: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut histories = vec![self];
        let mut lanes: Vec<Written<'_, D>> = Vec::new();
        let mut at = 0;
        while let Some(history) = histories.get(at).copied() {
            for (record, of) in (0u32..).zip(&history.records) {
                for lane in of.lanes() {
                    let finish = lane.finish.as_deref();
                    histories.extend(finish.map(|finish| &finish.history));
                    lanes.push(Lane {
                        history: u32::try_from(at).map_err(serde::ser::Error::custom)?,
                        record,
                        name: Arc::clone(&lane.name),
                        finish: finish.map(|finish| LaneFinish {
                            outcome: &finish.outcome,
                            context: &finish.context,
                            usage: finish.usage,
                            records: finish.history.records.as_slice(),
                        }),
                    });
                }
            }
            at += 1;
        }
        let mut form = serializer.serialize_struct("History", 2)?;
        form.serialize_field("records", &self.records)?;
        form.serialize_field("lanes", &lanes)?;
        form.end()
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"))]
struct Form<D: Domain> {
    records: Vec<Record<D>>,
    lanes: Vec<Read<D>>,
}

impl<'de, D: Domain> Deserialize<'de> for History<D>
where
    D::Object: Deserialize<'de>,
    D::Context: Deserialize<'de>,
{
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        let form = Form::<D>::deserialize(deserializer)?;
        let mut histories = vec![History {
            records: form.records,
        }];
        let mut lanes = Vec::with_capacity(form.lanes.len());
        for lane in form.lanes {
            let finish = lane.finish.map(|finish| {
                histories.push(History {
                    records: finish.records,
                });
                (finish.outcome, finish.context, finish.usage)
            });
            lanes.push((lane.history, lane.record, lane.name, finish));
        }
        // A history's lanes stand behind it: taken from the back, each is whole when it is put in its place.
        while let Some((of, record, name, finish)) = lanes.pop() {
            let finish = match finish {
                Some((outcome, context, usage)) => {
                    let history = histories.pop().unwrap_or_default();
                    Some(Arc::new(Finish {
                        outcome,
                        context,
                        history: in_order(history),
                        usage,
                        kept: None,
                    }))
                }
                None => None,
            };
            let place = histories
                .get_mut(of as usize)
                .and_then(|of| of.records.get_mut(record as usize));
            let Some(place) = place else {
                let message =
                    format!("lane `{name}` belongs to record {record} of history {of}, which is not there");
                return Err(R::Error::custom(message));
            };
            if let Some(lanes) = Arc::get_mut(&mut place.details_mut().lanes) {
                lanes.push(LaneRecord { name, finish });
            }
        }
        Ok(in_order(histories.pop().unwrap_or_default()))
    }
}

/// Lanes that were put in from the last to the first, in declared order again.
fn in_order<D: Domain>(mut history: History<D>) -> History<D> {
    for record in &mut history.records {
        if let Some(lanes) = record
            .details
            .as_mut()
            .and_then(|details| Arc::get_mut(&mut details.lanes))
        {
            lanes.reverse();
        }
    }
    history
}

impl Serialize for LanePlace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut places = Vec::new();
        let mut next = Some(self);
        while let Some(place) = next {
            places.push((place.node, place.record, place.index));
            next = place.parent.as_deref();
        }
        places.reverse();
        places.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LanePlace {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        let mut places = Vec::<(NodeId, u32, u32)>::deserialize(deserializer)?.into_iter();
        let Some((node, record, index)) = places.next() else {
            return Err(R::Error::custom(
                "the place of a lane names at least one construct",
            ));
        };
        let outermost = LanePlace {
            parent: None,
            node,
            record,
            index,
        };
        Ok(places.fold(outermost, |around, (node, record, index)| LanePlace {
            parent: Some(Arc::new(around)),
            node,
            record,
            index,
        }))
    }
}
