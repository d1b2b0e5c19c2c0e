"""The runner: runs a pipeline, any number of times and any number at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, cast

from typing_extensions import TypeVar

from flujo._native import CompiledPlan, Engine, Run, definition_epoch
from flujo.application._checked import (
    checked_callable,
    checked_config,
    checked_data,
    checked_grace,
    checked_limits,
    checked_model,
    checked_on_alert,
    checked_rates,
    checked_seconds,
    checked_traceparent,
    hooks_and_telemetry,
    hooks_of_tracer,
    pipeline_of,
)
from flujo.application._keeping import LooksBack
from flujo.application._kept import Content, Durability, kept_runs
from flujo.application._starting import StartsRuns
from flujo.application._streaming import StreamsRuns
from flujo.application._unanswered import NO_ANSWER
from flujo.application._versions import versions_of
from flujo.domain.dsl.pipeline import Pipeline
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Self

    from pydantic import BaseModel

    from flujo._native import Migration, OptimizationConfig
    from flujo.domain.alerts import Alert
    from flujo.domain.events import Event
    from flujo.domain.rate_limit import RateLimit
    from flujo.domain.resources import AppResources
    from flujo.domain.results import PipelineResult
    from flujo.domain.usage import UsageLimits
    from flujo.infra.console_tracer import ConsoleTracer
    from flujo.infra.registry import PipelineRegistry
    from flujo.infra.telemetry import Telemetry
    from flujo.state.backends.base import StateBackend

__all__ = ["Flujo"]

InputT = TypeVar("InputT", contravariant=True, default=Any)
OutputT = TypeVar("OutputT", covariant=True, default=Any)

Coroutine.register(Run)  # pyright: ignore[reportAttributeAccessIssue] - an ABC, which its stub doesn't say


class Flujo(
    StreamsRuns[InputT, OutputT],
    StartsRuns[InputT, OutputT],
    LooksBack[InputT, OutputT],
    Generic[InputT, OutputT],
):
    """Runs a pipeline.

    Args:
        pipeline: What to run; a single step is a pipeline of one. Without it `registry` has it.
        context_model: The class of the state that the steps of a run share; `PipelineContext` by default.
        initial_context_data: Fields of the context. Each run gets copies.
        resources: An object that steps get as `resources`: clients, pools, settings.
        usage_limits: What a run may use at most.
        rate_limits: How often agents are called, for every step of the pipeline; what has the same name shares it,
            in other runners too.
        hooks: Functions that are told what happens; one annotated with a payload class gets that kind only.
        pipeline_name: A name for results and records.
        pipeline_version: Which version of that name in `registry`: the highest by default.
        registry: Has pipelines by name and version.
        deadline_s: Seconds of active time that a run may take.
        cancel_grace_s: Seconds that a cancelled run waits for the `finally` blocks of its steps; then their coroutines
            are closed and a warning names them.
        sync_workers: How many threads run plain functions; the process's shared pool by default.
        executor: Runs plain functions in place of Flujo's threads; a `ThreadPoolExecutor`, for instance.
        telemetry: Who gets the spans and metrics of runs. A program that has set up OpenTelemetry's SDK gets the spans
            there; what goes to a collector otherwise then doesn't go twice.
        local_tracer: Prints each run on the console; `"default"` is a `ConsoleTracer()`.
        enable_tracing: Leave spans where somebody takes them; False leaves none.
        enable_optimizations: Use the optimised parts; False uses their plain twins.
        optimization_config: Which optimised parts are used, and their settings; those of the pipeline or a step win.
        on_alert: Is told of each `Alert`, in a thread of its own: a threshold of the config was crossed, or an
            optimised part failed. With it the growth of memory is watched in the background too.
        state_backend: Where runs are kept so that they outlive the process; by default where `FLUJO_STATE_URI` says.
            Nothing is stored without either.
        durability: When what happens must be there: `"strict"` before the next step begins, `"async"` soon after,
            `"exit"` when the run pauses or ends.
        lease_s: Seconds after which others take a process for dead that shows no life; it does so three times in
            that time.
        store_content: What of a run is in the store: all, all of it encrypted, or only that it ran.
        store_key: 32 bytes to encrypt with; those in `FLUJO_STORE_KEY` (64 hexadecimal digits) by default.
        migrate: Is asked about each stored run that began with another pipeline, before it is decided whether it can go
            on: `run.rename("old/path", "new/path")` tells of steps that are elsewhere now. What it raises refuses it.

    Raises:
        TypeError: an argument has a wrong type.
        ConfigurationError: a field of the context has a merge rule that doesn't fit it, or the registry doesn't have
            the pipeline.
        SettingsError: the nearest `flujo.toml` holds a price that can't be used.
        ValueError: a number is out of its range, or `sync_workers` and `executor` are both given.
    """

    def __init__(
        self,
        pipeline: Pipeline[InputT, OutputT] | Step[InputT, OutputT] | None = None,
        *,
        context_model: type[BaseModel] | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        resources: AppResources | None = None,
        usage_limits: UsageLimits | None = None,
        rate_limits: Iterable[RateLimit] = (),
        hooks: Iterable[Callable[..., object]] | None = None,
        pipeline_name: str | None = None,
        pipeline_version: str = "latest",
        registry: PipelineRegistry | None = None,
        deadline_s: float | None = None,
        cancel_grace_s: float = 5.0,
        sync_workers: int | None = None,
        executor: Executor | None = None,
        telemetry: Telemetry | None = None,
        local_tracer: ConsoleTracer | Literal["default"] | None = None,
        enable_tracing: bool = True,
        enable_optimizations: bool = True,
        optimization_config: OptimizationConfig | None = None,
        on_alert: Callable[[Alert], object] | None = None,
        state_backend: StateBackend | None = None,
        durability: Durability = "strict",
        lease_s: float = 10.0,
        store_content: Content = "full",
        store_key: bytes | None = None,
        migrate: Callable[[Migration], object] | None = None,
    ) -> None:
        from flujo.application._runs import Runs
        from flujo.application._workers import workers_for

        self.pipeline: Pipeline[InputT, OutputT] = pipeline_of(
            pipeline, registry, pipeline_name, pipeline_version
        )
        self.pipeline_version, self.registry = pipeline_version, registry
        self.context_model = checked_model(context_model)
        self.initial_context_data = checked_data(initial_context_data)
        self.resources = resources
        self.usage_limits = checked_limits(usage_limits)
        self.rate_limits = checked_rates(rate_limits)
        given, telemetry = hooks_and_telemetry(hooks, telemetry)
        self.hooks = [*given, *self.pipeline.hooks, *hooks_of_tracer(local_tracer)]
        self.pipeline_name = pipeline_name or self.pipeline.name or "unnamed"
        self._runs = Runs()
        self._compiled: tuple[int, CompiledPlan] | None = None
        make_context = None
        if self.context_model is not None:
            from flujo.application._context import context_factory

            make_context = context_factory(self.context_model, self.initial_context_data)
        hooked = []
        if self.hooks or self.pipeline.on_finish:
            from flujo.application._hooks import on_finish, with_points

            hooked = with_points([*self.hooks, *map(on_finish, self.pipeline.on_finish)])
        limits = self.usage_limits
        # A pipeline that was given is no version of the registry's.
        self._versions = None if pipeline is not None else versions_of(registry, self.pipeline_name)
        version = None if self._versions is None else self._versions.version_of(self.pipeline)
        self._kept = kept_runs(
            state_backend, durability, lease_s, store_content, store_key, self.context_model, version
        )
        self._runs.are_kept = self._kept is not None
        self._made_of: dict[str, Any] = dict(
            workers=workers_for(sync_workers, executor),
            cancel_grace_s=checked_grace(cancel_grace_s),
            make_context=make_context,
            resources=resources,
            hooks=hooked,
            cost_limit=None if limits is None else limits.total_cost_usd_limit,
            token_limit=None if limits is None else limits.total_tokens_limit,
            request_limit=None if limits is None else limits.total_requests_limit,
            rate_limits=self.rate_limits,
            deadline_s=checked_seconds("deadline_s", deadline_s),
            config=checked_config(optimization_config),
            optimized=enable_optimizations,
            traces=enable_tracing,
            telemetry=telemetry,
            on_alert=checked_on_alert(on_alert),
            versions=self._versions,
            migrate=checked_callable("migrate", migrate),
        )
        self._engine = Engine(self._compile, runs=self._runs, keeping=self._kept, **self._made_of)

    # --- running

    def run_async(
        self,
        initial_input: InputT,
        *,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> Coroutine[Any, Any, PipelineResult[Any, OutputT]]:
        """Run the pipeline: a coroutine that gives the result when it is awaited.

        `async for` over it yields the chunks of agents that stream, then the result.

        Args:
            initial_input: The first step's input.
            run_id: Names the run.
            initial_context_data: Fields of this run's context, over the runner's.
            traceparent: The span that the run is below, when that is one of another process: the value of the W3C
                header of this name. By default it is below the current span.

        Raises:
            UsageLimitExceededError: a usage limit was reached; `.result` holds what was done.
            PricingNotConfiguredError: cost is limited and a model has no price; `.result` holds what was done.
            RunCancelled: `cancel` ended the run; `.result` holds what was done.
            PipelineContextInitializationError: the context can't be made from the given data.
            MissingAgentError: a step has no agent.
        """
        if initial_context_data is None and self.context_model is None:
            initial_context_data = self.initial_context_data
        return cast(
            "Coroutine[Any, Any, PipelineResult[Any, OutputT]]",
            self._engine.run(initial_input, run_id, initial_context_data, checked_traceparent(traceparent)),
        )

    def _run(
        self, initial_input: Any, run_id: str | None, data: Mapping[str, Any] | None, traceparent: str | None
    ) -> Run:
        run = self.run_async(initial_input, run_id=run_id, initial_context_data=data, traceparent=traceparent)
        return cast("Run", run)

    def run(
        self,
        initial_input: InputT,
        *,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> PipelineResult[Any, OutputT]:
        """Run the pipeline and wait for it. See `run_async`.

        Raises:
            TypeError: an event loop is running in this thread; await `run_async` there.
        """
        from flujo.application._loops import private_loop

        return private_loop().run(
            self.run_async(
                initial_input,
                run_id=run_id,
                initial_context_data=initial_context_data,
                traceparent=traceparent,
            )
        )

    async def run_result_async(
        self,
        initial_input: InputT,
        *,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> PipelineResult[Any, OutputT]:
        """Run the pipeline. See `run_async`."""
        return await self.run_async(
            initial_input, run_id=run_id, initial_context_data=initial_context_data, traceparent=traceparent
        )

    # --- paused runs

    async def resume_async(
        self,
        paused: PipelineResult[Any, Any] | str,
        human_input: Any = NO_ANSWER,
        *,
        answers: Mapping[str, Any] | None = None,
        usage_limits: UsageLimits | None = None,
        traceparent: str | None = None,
    ) -> PipelineResult[Any, OutputT]:
        """Go on with a paused run, or one that was stopped: what had finished is kept, nothing is run again.

        A run was stopped when a limit of the runner was reached, or when it was cancelled. It goes on with the limits
        that are given here, in which all that it has used counts; what was under way is done again.

        The steps that follow see the context variables of whoever resumes.

        Args:
            paused: The result of the paused run; or its id, if it was given one or its result is still held, or if
                the run is in the runner's store.
            human_input: The answer, when the run waits for exactly one.
            answers: Answers by the id of their pause: to all of them or to some. Without any, questions whose time is
                up go on with their default.
            usage_limits: What a run that was stopped may use from its beginning to its end; what the runner allows by
                default.
            traceparent: The span of another process that the spans of what follows are to be below.

        Raises:
            PauseNotFoundError: the run has no such pause.
            AmbiguousAnswerError: several pauses wait, and `human_input` doesn't say which it is for.
            AlreadyAnsweredError: the pause has been answered.
            ResumeError: the run is neither paused nor stopped, isn't known, or has used more than it may.
            RunBusyError: another process has gone on with the run meanwhile, or has it. An answer to a run that is
                named by its id is left for that process, and what comes of it is waited for.
            ValidationError: an answer doesn't fit `input_schema`; the run stays paused, no answer was taken.
        """
        from flujo.application._resuming import Left, going_on, take_up

        def begin(of: PipelineResult[Any, Any] | str) -> Run:
            return going_on(self, of, human_input, answers, usage_limits, traceparent)

        result = await take_up(self, paused, human_input, answers, usage_limits, begin)
        if isinstance(result, Left):
            from flujo.application._left import follow

            result = await follow(self, str(paused))
        return cast("PipelineResult[Any, OutputT]", result)

    def resume_with_events(
        self,
        paused: PipelineResult[Any, Any] | str,
        human_input: Any = NO_ANSWER,
        *,
        answers: Mapping[str, Any] | None = None,
        usage_limits: UsageLimits | None = None,
        traceparent: str | None = None,
    ) -> AsyncGenerator[Event]:
        """Go on with a paused run and yield what happens; each question that goes on is a `resumed`.

        See `resume_async` for what it takes and raises, and `run_with_events` for what it yields.
        """
        from flujo.application._resuming import resumed_events

        return resumed_events(self, paused, human_input, answers, usage_limits, traceparent)

    def resume(
        self,
        paused: PipelineResult[Any, Any] | str,
        human_input: Any = NO_ANSWER,
        *,
        answers: Mapping[str, Any] | None = None,
        usage_limits: UsageLimits | None = None,
        traceparent: str | None = None,
    ) -> PipelineResult[Any, OutputT]:
        """Go on with a paused run and wait for it. See `resume_async`.

        Raises:
            TypeError: an event loop is running in this thread; await `resume_async` there.
        """
        from flujo.application._loops import private_loop

        resumed = self.resume_async(
            paused, human_input, answers=answers, usage_limits=usage_limits, traceparent=traceparent
        )
        return private_loop().run(resumed)

    async def cancel(self, run: PipelineResult[Any, Any] | str) -> PipelineResult[Any, OutputT]:
        """End a run: one under way, from any loop or thread, or a paused one; its result has status `cancelled`.

        The steps of a run under way get a `CancelledError` and `cancel_grace_s` seconds to end; whoever awaits the run
        gets `RunCancelled`. A run that has ended stays as it is. With a store, one that another process has ends there
        when that process looks, which it does three times in `lease_s`.

        Args:
            run: The run's id, which it was given or which `current_step()` tells inside it; or a paused result.

        Raises:
            ResumeError: the run is neither under way nor paused, or isn't known.
        """
        if isinstance(run, str) and (ended := await self._runs.cancel(run)) is not None:
            if ended.status != "paused":
                return ended
            run = ended
        from flujo.application._resuming import cancel

        return cast("PipelineResult[Any, OutputT]", await cancel(self, run))

    async def result(self, run_id: str) -> PipelineResult[Any, OutputT]:
        """The result of a run of this runner, or of one in its store, as soon as it has ended or waits for an answer.

        Args:
            run_id: The id that the run was given, or that `current_step()` tells inside it.

        Raises:
            RunCancelled: `cancel` ended the run while this waited for it.
            RunNotFoundError: no run of this id is under way, and nobody holds the result of one.
        """
        if self._kept is None or self._runs.knows_end(run_id):
            return await self._runs.result(run_id)
        from flujo.application._stored import result

        return cast("PipelineResult[Any, OutputT]", await result(self, run_id))

    def as_step(self, name: str, inherit_context: bool = True, **options: Any) -> Step[InputT, Any]:
        """This runner's pipeline as one step of another; its output is the nested `PipelineResult`.

        Args:
            name: Names the step.
            inherit_context: The nested context starts with copies of the outer one's fields, and is written back.
            **options: The fields of every step, and those of its config.
        """
        from flujo.application._nested import RunnerStep

        return RunnerStep(
            name,
            self.pipeline,
            inherit_context=inherit_context,
            context_model=self.context_model,
            initial_context_data=self.initial_context_data,
            **options,
        )

    def plan(self) -> CompiledPlan:
        """The plan that the next run will use."""
        return self._engine.plan()

    def _compile(self, fresh: bool) -> CompiledPlan:
        epoch = definition_epoch()
        if not fresh and self._compiled is not None and self._compiled[0] == epoch:
            return self._compiled[1]
        from flujo.application._lowering import compile_pipeline

        plan = compile_pipeline(self.pipeline, self.pipeline_name)
        self._compiled = (epoch, plan)
        return plan

    # --- optimisations

    def enable_optimizations(self) -> None:
        """Use the optimised parts for runs that start from now on."""
        self._engine.switch(True)

    def disable_optimizations(self) -> None:
        """Use the plain parts for runs that start from now on."""
        self._engine.switch(False)

    def disable_tracing(self) -> None:
        """Leave no spans of runs that start from now on."""
        self._engine.disable_tracing()

    def get_performance_statistics(self) -> dict[str, Any]:
        """How this runner's runs have performed so far: exact counts, times in seconds."""
        return self._engine.statistics()

    def reset_performance_statistics(self) -> None:
        """Start counting anew."""
        self._engine.reset_statistics()

    # --- life

    def close(self) -> None:
        """Release what the runner holds.

        Raises:
            TypeError: an event loop is running in this thread; await `aclose` there.
        """
        from flujo.application._loops import refuse_running_loop

        refuse_running_loop("close()", "aclose()")
        self._engine.forget_paused()

    async def aclose(self, drain_s: float = 0.0) -> None:
        """Release what the runner holds: paused runs that were given an id are kept no longer.

        Runs of this loop that `start` began have so many seconds to end; then they are cancelled.
        """
        await self._drain(drain_s)
        self._engine.forget_paused()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
