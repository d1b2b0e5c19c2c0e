"""The factories of `Step` that make constructs: parallel, conditional, map, loop, router, refinement, human."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from flujo.domain.candidates import RefinementCheck
    from flujo.domain.dsl._composable import Composable
    from flujo.domain.dsl._protocols import Condition
    from flujo.domain.dsl._step_fields import StepOptions
    from flujo.domain.dsl.conditional import ConditionalStep
    from flujo.domain.dsl.human import HumanInTheLoopStep
    from flujo.domain.dsl.loop import BodyFailure, LoopStep, RefineStep
    from flujo.domain.dsl.map import MapStep
    from flujo.domain.dsl.parallel import BranchFailureStrategy, MergeFunction, MergeStrategy, ParallelStep
    from flujo.domain.dsl.router import DynamicParallelRouterStep

__all__ = ["ConstructFactories"]

In = TypeVar("In")
Out = TypeVar("Out")
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class ConstructFactories:
    """What `Step` has of these factories."""

    @overload
    @classmethod
    def parallel(
        cls,
        name: str,
        branches: Mapping[str, Composable[In, Out]],
        *,
        context_include_keys: Iterable[str] | None = None,
        merge_strategy: MergeStrategy | MergeFunction | str = ...,
        on_branch_failure: BranchFailureStrategy | str = ...,
        field_mapping: Mapping[str, Iterable[str]] | None = None,
        ignore_branch_names: bool = False,
        reduce: None = None,
        max_concurrency: int | None = None,
        **options: Unpack[StepOptions],
    ) -> ParallelStep[In, dict[str, Out]]: ...
    @overload
    @classmethod
    def parallel(
        cls,
        name: str,
        branches: Mapping[str, Composable[In, Any]],
        *,
        context_include_keys: Iterable[str] | None = None,
        merge_strategy: MergeStrategy | MergeFunction | str = ...,
        on_branch_failure: BranchFailureStrategy | str = ...,
        field_mapping: Mapping[str, Iterable[str]] | None = None,
        ignore_branch_names: bool = False,
        reduce: Callable[..., Out],
        max_concurrency: int | None = None,
        **options: Unpack[StepOptions],
    ) -> ParallelStep[In, Out]: ...
    @classmethod
    def parallel(cls, name: str, branches: Mapping[str, Any], **options: Any) -> Any:
        """Run branches at the same time on one input, each with its own view of the context.

        The output is a dict of the branches' outputs in declared order, or what `reduce` makes of it. See
        `ParallelStep` for the keywords.
        """
        from flujo.domain.dsl.parallel import ParallelStep

        return ParallelStep(name, branches, **options)

    @overload
    @classmethod
    def branch_on(
        cls,
        name: str,
        condition_callable: Condition[In, Key],
        branches: Mapping[Key, Composable[In, Out]],
        default_branch_pipeline: Composable[In, Out] | None = None,
        branch_input_mapper: None = None,
        branch_output_mapper: None = None,
        **options: Unpack[StepOptions],
    ) -> ConditionalStep[In, Out]: ...
    @overload
    @classmethod
    def branch_on(
        cls,
        name: str,
        condition_callable: Condition[Any, Key],
        branches: Mapping[Key, Composable[Any, Any]],
        default_branch_pipeline: Composable[Any, Any] | None = None,
        branch_input_mapper: Callable[..., object] | None = None,
        branch_output_mapper: Callable[..., object] | None = None,
        **options: Unpack[StepOptions],
    ) -> ConditionalStep[Any, Any]: ...
    @overload
    @classmethod
    def branch_on(
        cls,
        name: str,
        *,
        condition_expression: str,
        branches: Mapping[Any, Composable[In, Out]],
        default_branch_pipeline: Composable[In, Out] | None = None,
        branch_input_mapper: None = None,
        branch_output_mapper: None = None,
        **options: Unpack[StepOptions],
    ) -> ConditionalStep[In, Out]: ...
    @overload
    @classmethod
    def branch_on(
        cls,
        name: str,
        *,
        condition_expression: str,
        branches: Mapping[Any, Composable[Any, Any]],
        default_branch_pipeline: Composable[Any, Any] | None = None,
        branch_input_mapper: Callable[..., object] | None = None,
        branch_output_mapper: Callable[..., object] | None = None,
        **options: Unpack[StepOptions],
    ) -> ConditionalStep[Any, Any]: ...
    @classmethod
    def branch_on(cls, name: str, *args: Any, **options: Any) -> Any:
        """Run the branch whose key the condition gives for the last output and the context.

        See `ConditionalStep` for the keywords.
        """
        from flujo.domain.dsl.conditional import ConditionalStep

        return ConditionalStep(name, *args, **options)

    @overload
    @classmethod
    def map_over(
        cls,
        name: str,
        pipeline: Composable[Item, Out],
        *,
        iterable_input: None = None,
        max_concurrency: int = 1,
        merge_strategy: MergeStrategy | MergeFunction | str = ...,
        on_item_failure: Literal["fail", "skip"] = "fail",
        **options: Unpack[StepOptions],
    ) -> MapStep[Iterable[Item], list[Out]]: ...
    @overload
    @classmethod
    def map_over(
        cls,
        name: str,
        pipeline: Composable[Item, Out],
        *,
        iterable_input: None = None,
        max_concurrency: int = 1,
        merge_strategy: MergeStrategy | MergeFunction | str = ...,
        on_item_failure: Literal["none"],
        **options: Unpack[StepOptions],
    ) -> MapStep[Iterable[Item], list[Out | None]]: ...
    @overload
    @classmethod
    def map_over(
        cls,
        name: str,
        pipeline: Composable[Any, Out],
        *,
        iterable_input: str | Callable[..., object],
        max_concurrency: int = 1,
        merge_strategy: MergeStrategy | MergeFunction | str = ...,
        on_item_failure: Literal["fail", "skip"] = "fail",
        **options: Unpack[StepOptions],
    ) -> MapStep[Any, list[Out]]: ...
    @overload
    @classmethod
    def map_over(
        cls,
        name: str,
        pipeline: Composable[Any, Out],
        *,
        iterable_input: str | Callable[..., object],
        max_concurrency: int = 1,
        merge_strategy: MergeStrategy | MergeFunction | str = ...,
        on_item_failure: Literal["none"],
        **options: Unpack[StepOptions],
    ) -> MapStep[Any, list[Out | None]]: ...
    @classmethod
    def map_over(cls, name: str, pipeline: Any, **options: Any) -> Any:
        """Run a pipeline once for each item; the output is the list of their outputs in order of the items.

        See `MapStep` for the keywords.
        """
        from flujo.domain.dsl.map import MapStep

        return MapStep(name, pipeline, **options)

    @overload
    @classmethod
    def loop_until(
        cls,
        name: str,
        loop_body_pipeline: Composable[Item, Item],
        exit_condition_callable: Condition[Item, object],
        max_loops: int = 5,
        *,
        initial_input_to_loop_body_mapper: None = None,
        iteration_input_mapper: None = None,
        loop_output_mapper: None = None,
        on_body_failure: BodyFailure = "stop",
        **options: Unpack[StepOptions],
    ) -> LoopStep[Item, Item]: ...
    @overload
    @classmethod
    def loop_until(
        cls,
        name: str,
        loop_body_pipeline: Composable[Any, Out],
        exit_condition_callable: Condition[Out, object],
        max_loops: int = 5,
        *,
        initial_input_to_loop_body_mapper: Callable[..., object] | None = None,
        iteration_input_mapper: Callable[..., object] | None = None,
        loop_output_mapper: None = None,
        on_body_failure: BodyFailure = "stop",
        **options: Unpack[StepOptions],
    ) -> LoopStep[Any, Out]: ...
    @overload
    @classmethod
    def loop_until(
        cls,
        name: str,
        loop_body_pipeline: Composable[Any, Out],
        exit_condition_callable: Condition[Out, object],
        max_loops: int = 5,
        *,
        initial_input_to_loop_body_mapper: Callable[..., object] | None = None,
        iteration_input_mapper: Callable[..., object] | None = None,
        loop_output_mapper: Callable[..., object],
        on_body_failure: BodyFailure = "stop",
        **options: Unpack[StepOptions],
    ) -> LoopStep[Any, Any]: ...
    @classmethod
    def loop_until(
        cls,
        name: str,
        loop_body_pipeline: Any,
        exit_condition_callable: Any,
        max_loops: int = 5,
        **options: Any,
    ) -> Any:
        """Run a pipeline again and again, each time on the output of the time before, until a condition holds.

        See `LoopStep` for the keywords.
        """
        from flujo.domain.dsl.loop import LoopStep

        return LoopStep(name, loop_body_pipeline, exit_condition_callable, max_loops, **options)

    @classmethod
    def refine_until(
        cls,
        name: str,
        generator_pipeline: Composable[Any, Out],
        critic_pipeline: Composable[Out, RefinementCheck],
        max_refinements: int = 5,
        feedback_mapper: Callable[[Any, RefinementCheck], object] | None = None,
        **options: Unpack[StepOptions],
    ) -> RefineStep[Any, Out]:
        """Make something and have it checked, again and again, until the critic is content.

        See `RefineStep` for the arguments.
        """
        from flujo.domain.dsl.loop import RefineStep

        return RefineStep(
            name, generator_pipeline, critic_pipeline, max_refinements, feedback_mapper, **options
        )

    @overload
    @classmethod
    def dynamic_parallel_branch(
        cls,
        name: str,
        router_agent: object,
        branches: Mapping[str, Composable[In, Out]],
        *,
        context_include_keys: Iterable[str] | None = None,
        merge_strategy: MergeStrategy | MergeFunction | str = ...,
        on_branch_failure: BranchFailureStrategy | str = ...,
        field_mapping: Mapping[str, Iterable[str]] | None = None,
        ignore_branch_names: bool = False,
        reduce: None = None,
        max_concurrency: int | None = None,
        **options: Unpack[StepOptions],
    ) -> DynamicParallelRouterStep[In, dict[str, Out]]: ...
    @overload
    @classmethod
    def dynamic_parallel_branch(
        cls,
        name: str,
        router_agent: object,
        branches: Mapping[str, Composable[In, Any]],
        *,
        context_include_keys: Iterable[str] | None = None,
        merge_strategy: MergeStrategy | MergeFunction | str = ...,
        on_branch_failure: BranchFailureStrategy | str = ...,
        field_mapping: Mapping[str, Iterable[str]] | None = None,
        ignore_branch_names: bool = False,
        reduce: Callable[..., Out],
        max_concurrency: int | None = None,
        **options: Unpack[StepOptions],
    ) -> DynamicParallelRouterStep[In, Out]: ...
    @classmethod
    def dynamic_parallel_branch(
        cls, name: str, router_agent: Any, branches: Mapping[str, Any], **options: Any
    ) -> Any:
        """Run the branches that a router names, at the same time on one input.

        Other than `DynamicParallelRouterStep` it joins the branches' writes to the context (`CONTEXT_UPDATE`)
        unless told otherwise. See that class for the keywords.
        """
        from flujo.domain.dsl.parallel import MergeStrategy
        from flujo.domain.dsl.router import DynamicParallelRouterStep

        options.setdefault("merge_strategy", MergeStrategy.CONTEXT_UPDATE)
        return DynamicParallelRouterStep(name, router_agent, branches, **options)

    @classmethod
    def human_in_the_loop(
        cls,
        name: str,
        message_for_user: str | None = None,
        input_schema: Any = None,
        sink_to: str | None = None,
        **options: Any,
    ) -> HumanInTheLoopStep:
        """Pause the run until a human answers; the answer is the step's output.

        See `HumanInTheLoopStep` for the keywords.
        """
        from flujo.domain.dsl.human import HumanInTheLoopStep

        return HumanInTheLoopStep(name, message_for_user, input_schema, sink_to, **options)
