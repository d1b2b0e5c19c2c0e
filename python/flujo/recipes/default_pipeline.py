"""The default recipe: a checklist, a solution, and a check of the one against the other, until it fits."""

from __future__ import annotations

from typing import Any

from flujo.domain.candidates import Candidate, Checklist, Task
from flujo.domain.dsl.pipeline import Pipeline
from flujo.domain.dsl.step import Step

__all__ = ["make_default_pipeline", "run_default_pipeline"]


def make_default_pipeline(
    review_agent: object,
    solution_agent: object,
    validator_agent: object,
    reflection_agent: object = None,
    max_retries: int = 3,
    k_variants: int = 1,
    max_iters: int = 3,
    reflection_limit: int | None = None,
) -> Pipeline[Any, Any]:
    """Review, then solve and validate, until every item of the checklist has passed.

    The review agent gets the task's prompt and gives a `Checklist`. The solution agent gets the prompt, after the first
    round a dict with `prompt`, `solution` and `feedback`, and gives a text. The validator agent gets a dict with
    `solution` and `checklist`, and gives the checklist with `passed` and `feedback` filled in.

    The output is the best `Candidate` of the last round; its score is the share of items that passed. When not all have
    after `max_iters` rounds, the run fails and keeps it as output. The run's context must be a `PipelineContext`.

    Args:
        review_agent: Makes the checklist.
        solution_agent: Makes a solution.
        validator_agent: Holds a solution against the checklist.
        reflection_agent: Makes the feedback for the next round from the `Candidate`; without one it is the list of what
            the validator said of the items that failed.
        max_retries: How often each agent is tried again.
        k_variants: How many solutions there are in each round, at the same time.
        max_iters: How many rounds there are at most.
        reflection_limit: After how many rounds the reflection agent isn't asked any more; None for never.

    Raises:
        ValueError: a number is below 1.
    """
    for name, value in (("k_variants", k_variants), ("max_iters", max_iters)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} = {value!r}: must be a whole number, 1 or more")
    variant: Pipeline[Any, Any] = Pipeline(
        [
            Step("solution", solution_agent, max_retries=max_retries, sink_to="solution"),
            Step("with checklist", _with_checklist, inline=True),
            Step("validate", validator_agent, max_retries=max_retries),
            Step("candidate", _candidate, inline=True),
        ]
    )
    variants = {f"variant {number}": variant for number in range(1, k_variants + 1)}
    body: Pipeline[Any, Any] = Pipeline(
        [
            Step.parallel("variants", variants, merge_strategy="no_merge", reduce=_best),
            Step("keep", _keep, inline=True),
        ]
    )
    if reflection_agent is not None:
        reflection = Step("reflection", reflection_agent, max_retries=max_retries, sink_to="reflection")
        body = body >> Step.branch_on(
            "reflect",
            _Reflects(reflection_limit),
            {True: reflection, False: Step.from_mapper(_same, name="go on")},
            branch_output_mapper=_kept,
        )
    solve = Step.loop_until(
        "solve",
        body,
        _all_passed,
        max_iters,
        initial_input_to_loop_body_mapper=_first_round,
        iteration_input_mapper=_next_round,
    )
    review = Step("review", review_agent, max_retries=max_retries, sink_to="checklist")
    return Pipeline([Step("prompt", _prompt, inline=True), review, solve], name="default")


async def run_default_pipeline(pipeline: Pipeline[Any, Any], task: Task | str) -> Candidate | None:
    """Run such a pipeline on a task; None where it gave no candidate."""
    from flujo.application.runner import Flujo

    async with Flujo(pipeline) as runner:
        result = await runner.run_async(task)
    return result.output if isinstance(result.output, Candidate) else None


def _same(value: Any) -> Any:
    return value


def _prompt(task: Any, context: Any) -> str:
    context.initial_prompt = task.prompt if isinstance(task, Task) else str(task)
    context.reflection = None
    prompt: str = context.initial_prompt
    return prompt


def _first_round(_checklist: Any, context: Any) -> Any:
    return context.initial_prompt


def _next_round(candidate: Any, context: Any, _index: int) -> dict[str, Any]:
    failed = [item for item in candidate.checklist.items if not item.passed]
    feedback = context.reflection or [
        f"{item.description}: {item.feedback or 'not passed'}" for item in failed
    ]
    context.reflection = None
    return {"prompt": context.initial_prompt, "solution": candidate.solution, "feedback": feedback}


def _with_checklist(solution: Any, context: Any) -> dict[str, Any]:
    return {"solution": solution, "checklist": context.checklist}


def _candidate(checklist: Any, context: Any) -> Candidate:
    checklist = Checklist.model_validate(checklist)
    passed = [bool(item.passed) for item in checklist.items]
    score = sum(passed) / len(passed) if passed else 1.0
    return Candidate(solution=context.solution, score=score, checklist=checklist)


def _best(lanes: list[Any]) -> Candidate:
    candidates: list[Candidate] = [lane.output for lane in lanes]
    return max(candidates, key=lambda candidate: candidate.score)


def _keep(candidate: Any, context: Any) -> Any:
    context.solution, context.checklist = candidate.solution, candidate.checklist
    return candidate


def _kept(_output: Any, context: Any) -> Candidate:
    return _candidate(context.checklist, context)


def _all_passed(candidate: Any) -> bool:
    return all(item.passed for item in candidate.checklist.items)


class _Reflects:
    """Whether the reflection agent is asked for the feedback of this round."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit

    def __call__(self, candidate: Any) -> bool:
        from flujo.application._place import current_step

        within = self._limit is None or current_step().iteration <= self._limit
        return within and not _all_passed(candidate)
