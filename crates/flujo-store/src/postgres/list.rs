//! Pages of runs. Each is read from an index that has it in order, so that it costs the same among a million runs as
//! among a thousand.

use std::fmt::Write as _;

use flujo_core::store::{Order, Page, RunInfo, RunQuery, RunStatus};
use tokio_postgres::types::ToSql;

use super::failure::Failure;
use super::read::{INFOS, info_of};
use super::session::Session;

/// Conditions, with the values of their `?`.
#[derive(Default)]
struct Conditions {
    text: String,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    /// The number under which a value is given.
    fn value(&mut self, value: impl ToSql + Sync + Send + 'static) -> usize {
        self.values.push(Box::new(value));
        self.values.len()
    }

    fn and(&mut self, condition: &str, value: Option<impl ToSql + Sync + Send + 'static>) {
        if let Some(value) = value {
            let number = self.value(value);
            let condition = condition.replace('?', &format!("${number}"));
            // Writing to a string doesn't fail.
            let _ = write!(self.text, " AND {condition}");
        }
    }
}

fn conditions(query: &RunQuery) -> Conditions {
    let mut found = Conditions::default();
    found.and("pipeline = ?", query.pipeline.as_deref().map(str::to_owned));
    found.and("created < ?", query.created_before);
    found.and("created >= ?", query.created_from);
    found.and("due <= ?", query.due_by);
    found.and("worker = ?", query.owner.flatten().map(|worker| worker.0));
    if query.owner == Some(None) {
        found.text.push_str(" AND worker IS NULL");
    }
    if query.with_messages {
        found.text.push_str(" AND run IN (SELECT run FROM messages)");
    }
    if let Some((time, id)) = &query.after {
        let (later, behind) = match query.order {
            Order::Newest => ('<', '>'),
            Order::Oldest => ('>', '<'),
        };
        let (time, id) = (found.value(*time), found.value(id.to_string()));
        // The first bounds what is read of the index.
        let _ = write!(
            found.text,
            " AND created {later}= ${time} AND (created {later} ${time} OR id {behind} ${id})"
        );
    }
    found
}

pub(super) async fn list(session: &Session, query: &RunQuery) -> Result<Page, Failure> {
    let mut statuses = query.statuses.clone();
    statuses.sort_unstable();
    statuses.dedup();
    if statuses.is_empty() {
        statuses = RunStatus::ALL.to_vec();
    }
    let order = match query.order {
        Order::Newest => "ORDER BY created DESC, id",
        Order::Oldest => "ORDER BY created, id DESC",
    };
    let limit = query.limit as usize;
    let mut conditions = conditions(query);
    let wanted = conditions.value(i64::from(query.limit) + 1);
    // Each status is in order in its index; what is read of them is merged.
    let parts: Vec<String> = statuses
        .into_iter()
        .map(|status| {
            let and = &conditions.text;
            format!(
                "(SELECT created, id, run FROM runs WHERE status = '{status}'{and} {order} LIMIT ${wanted})"
            )
        })
        .collect();
    let sql = format!(
        "SELECT run FROM ({}) AS found {order} LIMIT ${wanted}",
        parts.join(" UNION ALL ")
    );
    let values: Vec<&(dyn ToSql + Sync)> = conditions.values.iter().map(|value| &**value as _).collect();
    let found = session.rows(&sql, &values).await?;
    let found: Vec<i64> = found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let shown = &found[..found.len().min(limit)];
    let mut infos: Vec<(i64, RunInfo)> = Vec::with_capacity(shown.len());
    for row in session.rows(INFOS, &[&shown]).await? {
        infos.push((row.try_get(0)?, info_of(&row)?));
    }
    infos.sort_by_key(|(run, _)| shown.iter().position(|shown| shown == run));
    let runs: Vec<RunInfo> = infos.into_iter().map(|(_, info)| info).collect();
    let last = runs.last().map(|run| (run.created, run.id.clone()));
    Ok(Page {
        next: if found.len() > limit { last } else { None },
        runs,
    })
}
