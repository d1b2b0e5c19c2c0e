//! Branches at the same time, typed: any number of one type, or a few of different types.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::MergeStrategy;
use flujo_core::machine::LaneRecord;
use flujo_tokio::{
    BranchFailure, Handler as Erased, Parallel as Untyped, Pipeline as Body, Raised, Tokio, lane_error,
};

use crate::payload::{look, unwrap, wrap};
use crate::pipeline::{Pipeline, Stage};
use crate::rules::merge_with;
use crate::{BoxError, Context, Payload, Unify};

/// Runs all branches on the same input, isolated from one another. A failing branch cancels the others and fails the
/// whole, unless `tolerate_failures` is called.
#[must_use = "a parallel step does nothing until its pipeline runs"]
pub struct Parallel<I, O, C = ()> {
    untyped: Untyped,
    types: PhantomData<fn(I, C) -> O>,
}

/// What each branch gave, or why it failed, in declared order.
pub type BranchResults<O> = Vec<(String, Result<O, BranchError>)>;

/// A parallel step whose router has a context of its own.
type Routed<I, O, C, R> = Parallel<I, Vec<(String, O)>, <C as Unify<<R as Stage>::Context>>::Output>;

/// Why a branch has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("branch `{branch}`: {reason}")]
pub struct BranchError {
    /// The branch.
    pub branch: Arc<str>,
    /// What failed in it.
    pub reason: String,
}

/// Runs branches at the same time, under a name.
///
/// Branches of one type, each `(name, stage)`, give a `Vec<(name, output)>` in declared order; a tuple of two to six
/// `(name, stage)` pairs gives the tuple of their outputs.
///
/// ```
/// use flujo::{BoxError, Flujo, parallel, step};
///
/// # #[tokio::main] async fn main() -> Result<(), BoxError> {
/// let lines = step("lines", |t: String| async move { Ok::<_, BoxError>(t.lines().count()) });
/// let upper = step("upper", |t: String| async move { Ok::<_, BoxError>(t.to_uppercase()) });
/// let p = parallel("look", (("lines", lines), ("upper", upper)));
/// assert_eq!(Flujo::new(p).run("a\nb".into()).await?.output, (2, "A\nB".to_owned()));
/// # Ok(()) }
/// ```
pub fn parallel<B: Branches>(name: impl Into<Arc<str>>, branches: B) -> Parallel<B::In, B::Out, B::Context> {
    let mut untyped = Untyped::new(name).collect(Erased::collect(|lanes| Ok(wrap(B::collect(lanes)?, None))));
    for (name, body) in branches.into_branches() {
        untyped = untyped.branch(name, body);
    }
    Parallel {
        untyped,
        types: PhantomData,
    }
}

impl<I: Payload, O: Payload, C: Context> Parallel<I, O, C> {
    /// How many branches run at the same time, at most; all of them without this.
    pub fn max_concurrency(mut self, limit: u32) -> Self {
        self.untyped = self.untyped.max_concurrency(limit);
        self
    }

    /// How the contexts of the branches become one; [`MergeStrategy::ContextUpdate`] without this.
    pub fn merge(mut self, strategy: MergeStrategy) -> Self {
        self.untyped = self.untyped.merge(strategy);
        self
    }

    /// Merges by a function of the context at the fork, which it changes, and of the contexts of the branches that succeeded,
    /// in declared order. When it fails the whole fails, and what it has changed is dropped. It must not wait.
    pub fn merge_with<F>(mut self, merge: F) -> Self
    where
        F: Fn(&mut C, &[(Arc<str>, C)]) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.untyped = self.untyped.merge(merge_with(merge));
        self
    }

    /// The longest time the whole may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.untyped = self.untyped.deadline(deadline);
        self
    }
}

impl<I: Payload, O: Payload, C: Context> Parallel<I, Vec<(String, O)>, C> {
    /// Lets `router` choose the branches by name: it runs first, on the same input, and only those it gives run after it,
    /// in declared order. An unknown name fails the step; none at all gives an empty output.
    ///
    /// ```
    /// use flujo::{BoxError, Flujo, parallel, step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let plus = |n: u32| step("plus", move |i: u32| async move { Ok::<_, BoxError>(i + n) });
    /// let choose = step("choose", |i: u32| async move {
    ///     Ok::<_, BoxError>(if i > 5 { vec!["b".to_owned()] } else { vec!["a".to_owned(), "b".to_owned()] })
    /// });
    /// let p = parallel("route", [("a", plus(1)), ("b", plus(2))]).routed_by(choose);
    /// assert_eq!(Flujo::new(p).run(10).await?.output, [("b".to_owned(), 12)]);
    /// # Ok(()) }
    /// ```
    pub fn routed_by<R>(self, router: R) -> Routed<I, O, C, R>
    where
        R: Stage<In = I, Out = Vec<String>>,
        C: Unify<R::Context>,
    {
        let router = router.into_pipeline().into_untyped();
        let select = |names: &_, _: &_| Ok(look::<Vec<String>>(names)?.clone());
        Parallel {
            untyped: self.untyped.router_with(router, select),
            types: PhantomData,
        }
    }

    /// Lets the other branches go on when one fails; the whole succeeds when at least one branch does. The output says
    /// for each branch what it gave or why it failed.
    pub fn tolerate_failures(self) -> Pipeline<I, BranchResults<O>, C> {
        let untyped = self
            .untyped
            .on_branch_failure(BranchFailure::Ignore)
            .collect(Erased::collect(|lanes| {
                let outputs: Result<Vec<_>, Raised> = lanes.iter().map(entry::<O>).collect();
                Ok(wrap(outputs?, None))
            }));
        Pipeline::typed(untyped.into(), None)
    }
}

fn entry<O: Payload>(lane: &LaneRecord<Tokio>) -> Result<(String, Result<O, BranchError>), Raised> {
    let result = match lane.output() {
        Some(output) => Ok(unwrap(output.clone())?),
        None => Err(BranchError {
            branch: Arc::clone(&lane.name),
            reason: lane_error(lane),
        }),
    };
    Ok((lane.name.to_string(), result))
}

impl<I: Payload, O: Payload, C: Context> Stage for Parallel<I, O, C> {
    type In = I;
    type Out = O;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<I, O, C> {
        Pipeline::typed(self.untyped.into(), None)
    }
}

/// The branches of a parallel step; see [`parallel`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the branches of a parallel step",
    label = "not branches",
    note = "give `(name, stage)` pairs that take the same input: a `Vec` or array of one type, or a tuple of two to six"
)]
pub trait Branches {
    /// What every branch takes.
    type In: Payload;
    /// What they give together.
    type Out: Payload;
    /// The context they need.
    type Context: Context;

    /// The branches in declared order.
    fn into_branches(self) -> Vec<(Arc<str>, Body)>;

    /// One output from those of the branches, all of which succeeded.
    ///
    /// # Errors
    /// When a branch gave something of another type.
    fn collect(lanes: &[LaneRecord<Tokio>]) -> Result<Self::Out, Raised>;
}

impl<N: Into<Arc<str>>, S: Stage> Branches for Vec<(N, S)> {
    type In = S::In;
    type Out = Vec<(String, S::Out)>;
    type Context = S::Context;

    fn into_branches(self) -> Vec<(Arc<str>, Body)> {
        self.into_iter()
            .map(|(name, stage)| (name.into(), stage.into_pipeline().into_untyped()))
            .collect()
    }

    fn collect(lanes: &[LaneRecord<Tokio>]) -> Result<Self::Out, Raised> {
        (0..lanes.len())
            .map(|place| Ok((lanes[place].name.to_string(), output(lanes, place)?)))
            .collect()
    }
}

impl<N: Into<Arc<str>>, S: Stage, const COUNT: usize> Branches for [(N, S); COUNT] {
    type In = S::In;
    type Out = Vec<(String, S::Out)>;
    type Context = S::Context;

    fn into_branches(self) -> Vec<(Arc<str>, Body)> {
        Vec::from(self).into_branches()
    }

    fn collect(lanes: &[LaneRecord<Tokio>]) -> Result<Self::Out, Raised> {
        <Vec<(N, S)>>::collect(lanes)
    }
}

fn output<O: Payload>(lanes: &[LaneRecord<Tokio>], place: usize) -> Result<O, Raised> {
    match lanes.get(place).and_then(LaneRecord::output) {
        Some(output) => unwrap(output.clone()),
        None => Err(Raised::new(format!("branch {place} has no output"))),
    }
}

/// The context that all of the given ones go into.
macro_rules! united {
    ($only:ty) => { $only };
    ($first:ty, $second:ty $(, $rest:ty)*) => { united!(<$first as Unify<$second>>::Output $(, $rest)*) };
}

/// Branches of different types, by their number.
macro_rules! tuples {
    ($(($($stage:ident $name:ident $place:tt),*) where [$($bound:tt)*]);* $(;)?) => {$(
        impl<I: Payload, $($name: Into<Arc<str>>, $stage: Stage<In = I>),*> Branches for ($(($name, $stage),)*)
        where
            $($bound)*
        {
            type In = I;
            type Out = ($($stage::Out,)*);
            type Context = united!($($stage::Context),*);

            fn into_branches(self) -> Vec<(Arc<str>, Body)> {
                vec![$((self.$place.0.into(), self.$place.1.into_pipeline().into_untyped())),*]
            }

            fn collect(lanes: &[LaneRecord<Tokio>]) -> Result<Self::Out, Raised> {
                Ok(($(output::<$stage::Out>(lanes, $place)?,)*))
            }
        }
    )*};
}

tuples! {
    (A NA 0, B NB 1) where [A::Context: Unify<B::Context>];
    (A NA 0, B NB 1, D ND 2) where [
        A::Context: Unify<B::Context>,
        united!(A::Context, B::Context): Unify<D::Context>
    ];
    (A NA 0, B NB 1, D ND 2, E NE 3) where [
        A::Context: Unify<B::Context>,
        united!(A::Context, B::Context): Unify<D::Context>,
        united!(A::Context, B::Context, D::Context): Unify<E::Context>
    ];
    (A NA 0, B NB 1, D ND 2, E NE 3, F NF 4) where [
        A::Context: Unify<B::Context>,
        united!(A::Context, B::Context): Unify<D::Context>,
        united!(A::Context, B::Context, D::Context): Unify<E::Context>,
        united!(A::Context, B::Context, D::Context, E::Context): Unify<F::Context>
    ];
    (A NA 0, B NB 1, D ND 2, E NE 3, F NF 4, G NG 5) where [
        A::Context: Unify<B::Context>,
        united!(A::Context, B::Context): Unify<D::Context>,
        united!(A::Context, B::Context, D::Context): Unify<E::Context>,
        united!(A::Context, B::Context, D::Context, E::Context): Unify<F::Context>,
        united!(A::Context, B::Context, D::Context, E::Context, F::Context): Unify<G::Context>
    ];
}
