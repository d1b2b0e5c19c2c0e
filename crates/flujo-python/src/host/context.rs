//! Contexts that are made when somebody first looks. Most steps never take the context, and a run whose steps don't
//! pays nothing for having one.

mod saved;

use std::sync::{Arc, OnceLock};

use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyFloat, PyInt, PyString};

pub(crate) use saved::{Base, Writes};

use super::answer::refuse;
use super::names;
use crate::context::{self as view, CloneCounts, Handle, ReadLog};

/// The context of a run, or a fork of one.
#[derive(Debug)]
pub(crate) struct ContextCell {
    object: OnceLock<Handle>,
    source: Source,
    /// Whether it is isolated by copying every field, at once: the plain twin of views.
    copies: bool,
    /// Whether what is read of it is noted: then no field is copied before somebody looks.
    records: bool,
}

#[derive(Debug)]
enum Source {
    /// Given when the run began.
    Given,
    /// The default context, made from the run's input and extra data.
    Default {
        initial_prompt: Py<PyAny>,
        data: Option<Py<PyAny>>,
        run_id: Option<Py<PyAny>>,
        counts: Arc<CloneCounts>,
    },
    /// A view over another one, which notes what is read there.
    Fork(Arc<ContextCell>, Option<Arc<ReadLog>>),
}

impl ContextCell {
    /// A context that somebody has made. The run works on a view of it, so that the maker's own references reach
    /// nothing in the run.
    pub(crate) fn given(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            object: OnceLock::from(Handle::of(view::view(object)?.bind(object.py()))?),
            source: Source::Given,
            copies: false,
            records: false,
        })
    }

    /// What is to be committed in place of this one, which some function was given and for which it returned another
    /// context. `None`: that is none of the same class.
    pub(crate) fn replaced_by(self: &Arc<Self>, object: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        let own = self.object(object.py())?;
        if own.is(object) {
            return Ok(Some(Arc::clone(self)));
        }
        let made = Self {
            object: OnceLock::from(Handle::of(object)?),
            source: Source::Given,
            copies: self.copies,
            records: false,
        };
        Ok(view::same_class(&own, object)?.then(|| Arc::new(made)))
    }

    /// As `given`, counting what is cloned from it, and isolated by copying where that is asked for.
    pub(crate) fn counting(
        object: &Bound<'_, PyAny>,
        counts: &Arc<CloneCounts>,
        copies: bool,
    ) -> PyResult<Self> {
        let made = view::counting_view(object, counts)?;
        if copies {
            view::copy_all(made.bind(object.py()))?;
        }
        Ok(Self {
            object: OnceLock::from(Handle::of(made.bind(object.py()))?),
            source: Source::Given,
            copies,
            records: false,
        })
    }

    /// Whether it is a view: where its class admits none it is copied whole, whatever was asked for.
    pub(crate) fn is_view(&self) -> bool {
        match self.object.get() {
            Some(object) => object.is_view(),
            None => true, // the default context, once it is made
        }
    }

    /// The default context of a run with this input. A mutable input is turned into text now, since it may be another
    /// one when somebody looks.
    pub(crate) fn default_for(
        py: Python<'_>,
        input: &Py<PyAny>,
        data: Option<Py<PyAny>>,
        run_id: Option<Py<PyAny>>,
        counts: &Arc<CloneCounts>,
        copies: bool,
    ) -> PyResult<Self> {
        let input = input.bind(py);
        let stays = input.is_none()
            || input.is_exact_instance_of::<PyString>()
            || input.is_exact_instance_of::<PyInt>()
            || input.is_exact_instance_of::<PyFloat>();
        let initial_prompt = if stays {
            input.clone().unbind()
        } else {
            input.str()?.into_any().unbind()
        };
        Ok(Self {
            object: OnceLock::new(),
            source: Source::Default {
                initial_prompt,
                data,
                run_id,
                counts: Arc::clone(counts),
            },
            copies,
            records: false,
        })
    }

    pub(crate) fn fork_of(base: &Arc<Self>) -> Self {
        Self::isolated(base, base.copies)
    }

    /// A fork of `base` that is isolated in its own way.
    pub(crate) fn isolated(base: &Arc<Self>, copies: bool) -> Self {
        Self {
            object: OnceLock::new(),
            source: Source::Fork(Arc::clone(base), None),
            copies: copies && !base.records,
            records: base.records,
        }
    }

    /// A fork whose reads, and those of its forks, are noted.
    pub(crate) fn recorded_fork_of(base: &Arc<Self>, reads: Arc<ReadLog>) -> Self {
        Self {
            object: OnceLock::new(),
            source: Source::Fork(Arc::clone(base), Some(reads)),
            copies: false,
            records: true,
        }
    }

    /// Where reads of this context are noted.
    pub(crate) fn read_log(&self, py: Python<'_>) -> PyResult<Option<Arc<ReadLog>>> {
        let mut cell = self;
        loop {
            if let Some(object) = cell.object.get() {
                return view::read_log(object.object().bind(py));
            }
            match &cell.source {
                Source::Fork(_, Some(reads)) => return Ok(Some(Arc::clone(reads))),
                Source::Fork(base, None) => cell = base,
                Source::Given | Source::Default { .. } => return Ok(None),
            }
        }
    }

    /// Whether nothing has been written here.
    pub(crate) fn is_unwritten(&self, py: Python<'_>) -> PyResult<bool> {
        match self.object.get() {
            Some(object) => view::is_unwritten(object.object().bind(py)),
            None => Ok(true),
        }
    }

    /// The object, when somebody has looked at it and it needs preparation for its commit.
    pub(crate) fn unsettled(&self, py: Python<'_>) -> PyResult<Option<&Py<PyAny>>> {
        match self.object.get() {
            Some(object) if !object.is_settled(py)? => Ok(Some(object.object())),
            _ => Ok(None),
        }
    }

    /// The context object itself, made now if nobody has looked before.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.handle(py)?.object().bind(py).clone())
    }

    fn handle(&self, py: Python<'_>) -> PyResult<&Handle> {
        if let (None, Source::Fork(base, _)) = (self.object.get(), &self.source)
            && base.object.get().is_none()
        {
            // Views over views are made from the outermost in, in a loop: lanes may be nested deep.
            let mut around = vec![base];
            while let Some(Source::Fork(base, _)) = around.last().map(|cell| &cell.source)
                && base.object.get().is_none()
            {
                around.push(base);
            }
            while let Some(cell) = around.pop() {
                cell.make(py)?;
            }
        }
        self.make(py)
    }

    /// Makes the object, unless there is one. What it is a view over is there.
    fn make(&self, py: Python<'_>) -> PyResult<&Handle> {
        if let Some(made) = self.object.get() {
            return Ok(made);
        }
        let made = match &self.source {
            Source::Fork(base, reads) => match (base.object.get(), reads) {
                (Some(base), None) => base.view(py)?,
                (Some(base), Some(reads)) => {
                    Handle::of(view::recorded_view(base.object().bind(py), reads)?.bind(py))?
                }
                (None, _) => return Err(refuse("a view of a context that isn't there")),
            },
            Source::Default {
                initial_prompt,
                data,
                run_id,
                counts,
            } => {
                let made = names::default_context(py)?.call1((initial_prompt, data, run_id))?;
                Handle::of(view::counting_view(&made, counts)?.bind(py))?
            }
            Source::Given => return Err(refuse("a context that isn't there")),
        };
        if self.copies {
            view::copy_all(made.object().bind(py))?;
        }
        // Another thread may have been faster; its object stays.
        Ok(self.object.get_or_init(|| made))
    }

    /// Tells the garbage collector of what this cell itself holds; gives the cell it is a view over.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<Option<&Arc<Self>>, PyTraverseError> {
        if let Some(object) = self.object.get() {
            object.tell(visit)?;
        }
        match &self.source {
            Source::Given => Ok(None),
            Source::Default {
                initial_prompt,
                data,
                run_id,
                ..
            } => {
                visit.call(initial_prompt)?;
                if let Some(data) = data {
                    visit.call(data)?;
                }
                if let Some(run_id) = run_id {
                    visit.call(run_id)?;
                }
                Ok(None)
            }
            Source::Fork(base, _) => Ok(Some(base)),
        }
    }

    /// The context as an ordinary object of its class, for whoever reads a result.
    pub(crate) fn plain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(view::plain(py, &self.object(py)?)?.into_bound(py))
    }

    /// The object, when somebody has looked.
    pub(crate) fn peek(&self) -> Option<&Py<PyAny>> {
        self.object.get().map(Handle::object)
    }

    /// Makes what was written here part of `base`. Nothing to do when nobody ever looked at this context.
    pub(crate) fn commit_into(&self, py: Python<'_>, base: &Arc<Self>) -> PyResult<()> {
        match self.object.get() {
            Some(object) => object.commit_into(py, base.handle(py)?),
            None => Ok(()),
        }
    }
}
