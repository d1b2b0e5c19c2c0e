//! A pipeline that has changed since a run began: what of it the run has met must be as it was.
//!
//! A run goes on when every part that its state and its log tell of is in the pipeline as it is now, of the same kind and at
//! the same place in what is around it. So steps may come and go behind where the run stands, and configuration may change;
//! what the log tells of is asked for again and must be asked for by the same steps.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use flujo_core::plan::{Moves, NodeId, Plan, with_moves};
use flujo_core::store::StoredRun;

use crate::{Contents, Definition, DurableError, Recorded, Uncalled};

/// What a runner knows of how its pipeline has changed.
pub type Migrate = dyn Fn(&mut Migration) + Send + Sync;

/// A run that began with another pipeline, before it is decided whether it can go on.
#[derive(Debug)]
pub struct Migration {
    before: Definition,
    differences: Vec<String>,
    renamed: BTreeMap<Arc<str>, Arc<str>>,
    refused: Option<String>,
}

impl Migration {
    /// What the pipeline was.
    pub fn before(&self) -> &Definition {
        &self.before
    }

    /// In what it differs now.
    pub fn differences(&self) -> &[String] {
        &self.differences
    }

    /// The part at the path `from` and all parts in it are at the path `to` now.
    pub fn rename(&mut self, from: &str, to: &str) {
        let Ok(plan) = self.before.plan() else { return };
        for (_, node) in plan.nodes() {
            let rest = node.path.strip_prefix(from);
            if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
                self.renamed
                    .insert(Arc::clone(&node.path), format!("{to}{rest}").into());
            }
        }
    }

    /// The run can't go on with the pipeline as it is now, whatever else fits.
    pub fn refuse(&mut self, reason: impl Into<String>) {
        self.refused = Some(reason.into());
    }

    fn now(&self, path: &Arc<str>) -> Arc<str> {
        Arc::clone(self.renamed.get(path).unwrap_or(path))
    }
}

/// A run is read that began with another pipeline.
pub struct Drift {
    run: Arc<str>,
    migration: Migration,
    moves: Moves,
}

impl fmt::Debug for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Drift").field(&self.migration.differences).finish()
    }
}

impl Drift {
    /// In what a stored run's pipeline differs from `plan`, which is defined as `now`; `None` when it is the same.
    ///
    /// # Errors
    /// [`DurableError::Corrupt`] when the definition can't be read, [`DurableError::DefinitionChanged`] when it was stored
    /// without its plan.
    pub fn of<C>(
        stored: &StoredRun,
        plan: &Plan<C>,
        now: &Definition,
        migrate: Option<&Migrate>,
    ) -> Result<Option<Self>, DurableError> {
        let run = &stored.info.id;
        let before = Definition::of_stored(stored)?;
        let differences = before.differences(now);
        if differences.is_empty() {
            return Ok(None);
        }
        let Ok(plan_before) = before.plan() else {
            return Err(DurableError::DefinitionChanged {
                run: Arc::clone(run),
                differences,
            });
        };
        let mut migration = Migration {
            before,
            differences,
            renamed: BTreeMap::new(),
            refused: None,
        };
        if let Some(migrate) = migrate {
            migrate(&mut migration);
        }
        if let Some(reason) = migration.refused {
            let mut differences = migration.differences;
            differences.push(format!("and the runner refuses to go on with it: {reason}"));
            return Err(DurableError::DefinitionChanged {
                run: Arc::clone(run),
                differences,
            });
        }
        Ok(Some(Self {
            run: Arc::clone(run),
            moves: moves(&plan_before, plan, &migration),
            migration,
        }))
    }

    /// Reads what is stored of the run, as if it had been written with the pipeline as it is now.
    ///
    /// # Errors
    /// [`DurableError::DefinitionChanged`] when it can't be.
    pub fn read<D: Recorded>(
        &self,
        read: impl FnOnce() -> Result<Contents<D>, DurableError>,
    ) -> Result<Contents<D>, DurableError> {
        let mut contents = with_moves(&self.moves, read).map_err(|error| self.explain(error))?;
        contents.rename(|path| self.migration.now(path));
        Ok(contents)
    }

    /// What keeps the run from going on, as a difference of its pipeline.
    pub fn explain(&self, error: DurableError) -> DurableError {
        let (DurableError::Corrupt { location, reason, .. }
        | DurableError::Diverged { location, reason, .. }) = error
        else {
            return error;
        };
        let mut differences = self.migration.differences.clone();
        differences.push(format!("and {location} of the run needs what it was: {reason}"));
        DurableError::DefinitionChanged {
            run: Arc::clone(&self.run),
            differences,
        }
    }
}

/// Where a node stands: in which one, as which of its children.
type Around = Option<(NodeId, usize)>;

fn around<C>(plan: &Plan<C>) -> Vec<Around> {
    let mut around = vec![None; plan.len()];
    for (id, _) in plan.nodes() {
        for (place, child) in plan.children(id).enumerate() {
            around[child.0 as usize] = Some((id, place));
        }
    }
    around
}

/// The same path and kind may be there more than once: a part and what it works with.
type Name = (Arc<str>, &'static str, usize);

fn names<C>(plan: &Plan<C>, path: impl Fn(&Arc<str>) -> Arc<str>) -> Vec<Name> {
    let mut met: HashMap<(Arc<str>, &'static str), usize> = HashMap::new();
    let mut name = |(_, node): (NodeId, &flujo_core::plan::Node<C>)| {
        let (path, kind) = (path(&node.path), node.kind.name());
        let times = met.entry((Arc::clone(&path), kind)).or_default();
        *times += 1;
        (path, kind, *times)
    };
    plan.nodes().map(&mut name).collect()
}

/// For each node of the plan before its place in the plan now, or what keeps a run from going on that has met it.
fn moves<C>(before: &Plan<Uncalled>, now: &Plan<C>, migration: &Migration) -> Moves {
    let (around_before, around_now) = (around(before), around(now));
    let names_before = names(before, |path| migration.now(path));
    let names_now = names(now, Arc::clone);
    let found: HashMap<&Name, NodeId> = names_now
        .iter()
        .zip(now.nodes())
        .map(|(name, (id, _))| (name, id))
        .collect();
    let name =
        |names: &[Name], around: Around| around.map(|(id, place)| (names[id.0 as usize].clone(), place));
    let inside_before = |id| {
        before
            .children(id)
            .map(|child| names_before[child.0 as usize].clone())
    };
    let inside_now = |id| now.children(id).map(|child| names_now[child.0 as usize].clone());
    let place = |(id, node): (NodeId, &flujo_core::plan::Node<Uncalled>)| {
        let own = &names_before[id.0 as usize];
        let (path, kind, _) = own;
        let there =
            *found
                .get(own)
                .ok_or_else(|| match now.nodes().find(|(_, other)| other.path == *path) {
                    Some((_, other)) => format!("`{path}` was a {kind} and is a {}", other.kind.name()),
                    None => format!("`{path}` ({kind}) is gone"),
                })?;
        let around = name(&names_before, around_before[id.0 as usize]);
        if around != name(&names_now, around_now[there.0 as usize]) {
            return Err(format!("`{path}` ({kind}) stands at another place"));
        }
        let sequence = matches!(node.kind, flujo_core::plan::Kind::Sequence(_));
        if !sequence && !inside_before(id).eq(inside_now(there)) {
            return Err(format!("`{path}` ({kind}) has other parts"));
        }
        Ok(there)
    };
    before.nodes().map(place).collect()
}
