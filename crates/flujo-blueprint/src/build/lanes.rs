//! `reduce`: what becomes of the outputs of branches.

use std::sync::Arc;

use flujo_core::value::Value;
use flujo_tokio::{Handler, Raised};

use crate::model::Reduce;

/// What makes the output; `None` for the map by branch that parallel steps give anyway. Branches that failed and were
/// ignored take no part.
pub(super) fn collect(reduce: Reduce) -> Option<Handler> {
    if reduce == Reduce::Map {
        return None;
    }
    Some(Handler::collect(move |lanes| {
        let done: Vec<(&Arc<str>, &Value)> = lanes
            .iter()
            .filter_map(|lane| Some((&lane.name, lane.output()?)))
            .collect();
        reduced(reduce, &done)
    }))
}

fn reduced(reduce: Reduce, done: &[(&Arc<str>, &Value)]) -> Result<Value, Raised> {
    let outputs = done.iter().map(|(_, output)| (*output).clone());
    Ok(match reduce {
        Reduce::Map => Value::map(
            done.iter()
                .map(|(name, output)| (Arc::clone(name), (*output).clone())),
        ),
        Reduce::Keys => Value::list(done.iter().map(|(name, _)| Value::Str(Arc::clone(name)))),
        Reduce::Values => Value::list(outputs),
        Reduce::First => outputs.into_iter().next().unwrap_or_default(),
        Reduce::Last => outputs.into_iter().next_back().unwrap_or_default(),
        Reduce::Union => {
            let mut union = Vec::new();
            for (name, output) in done {
                let entries = output
                    .as_map()
                    .ok_or_else(|| wrong(name, output, "union", "a map"))?;
                union.extend(entries.iter().cloned());
            }
            Value::map(union)
        }
        Reduce::Concat => {
            let mut all = Vec::new();
            for (name, output) in done {
                let items = output
                    .as_list()
                    .ok_or_else(|| wrong(name, output, "concat", "a list"))?;
                all.extend_from_slice(items);
            }
            Value::from(all)
        }
    })
}

fn wrong(branch: &str, output: &Value, reduce: &str, expected: &str) -> Raised {
    Raised::new(format!(
        "`reduce: {reduce}` needs {expected} from each branch, but `{branch}` gave a value of kind `{}`",
        output.kind()
    ))
}
