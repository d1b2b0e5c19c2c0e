//! Questions: asked once, and again only when the answer was not taken; what was answered is not asked any more.

use flujo_core::machine::{FailureKind, Role, Status};
use flujo_core::plan::Kind;

use super::{Check, Subject};
use crate::trace::CallEnd;

impl<'a> Check<'a> {
    pub(super) fn question(&mut self, subject: &Subject<'_, 'a>) {
        let Kind::Human(node) = subject.kind else {
            return;
        };
        let key = (subject.part.lane.clone(), subject.at);
        let asked = self.pauses.get(&key).cloned().unwrap_or_default();
        let accepts: Vec<Option<CallEnd>> = subject
            .calls
            .iter()
            .filter(|call| call.role == Role::Accept)
            .map(|call| call.end)
            .collect();
        let refused = |end: &Option<CallEnd>| matches!(end, Some(CallEnd::Rejected | CallEnd::Failed));
        let rejections = accepts.iter().filter(|end| refused(end)).count();
        let open_before = asked.iter().rev().skip(1).any(|asked| asked.answered.is_none());
        let (first, again) = match asked.split_first() {
            Some((first, again)) => (Some(*first), again),
            None => (None, &asked[..]),
        };
        let renamed = first.is_some_and(|first| again.iter().any(|asked| asked.pause != first.pause));
        let wrong = if first.is_some_and(|first| first.after_rejection)
            || again.iter().any(|asked| !asked.after_rejection)
            || again.len() > rejections
        {
            Some(format!(
                "asked {} times after {rejections} rejections",
                asked.len()
            ))
        } else if open_before || renamed {
            Some("asked another question while one was open".to_owned())
        } else {
            let last = asked.last().and_then(|asked| asked.answered);
            let taken = accepts.last().is_none_or(|end| *end == Some(CallEnd::Answered));
            let default = node.default.is_some();
            let failure = subject.record.failure.as_ref();
            match subject.record.status {
                Status::Succeeded if last.is_none() || !taken => {
                    Some("went on without an answer that was taken".to_owned())
                }
                Status::Succeeded if last == Some(false) && !default => {
                    Some("went on without an answer".to_owned())
                }
                // An answer that comes too late for the deadline around it is not taken.
                Status::Failed
                    if last == Some(true)
                        && failure.is_some_and(|failure| failure.kind != FailureKind::Deadline) =>
                {
                    Some(format!("was answered and failed: {failure:?}"))
                }
                _ => None,
            }
        };
        if let Some(wrong) = wrong {
            self.say(&subject.part.lane, format!("`{}` {wrong}", subject.name));
        }
    }
}
