"""Human approval: a draft waits for two people, one of whom must choose; whoever answers goes on from there.

python examples/human_approval/approval.py [--approve yes|no] [--title TITLE]
"""

from __future__ import annotations

import argparse
from typing import Any

from pydantic import BaseModel

from flujo import Flujo, PipelineContext, Step, step
from flujo.domain.results import PipelineResult


class Approval(BaseModel):
    """What the editor answers."""

    approved: bool
    reason: str = ""


class Article(PipelineContext):
    """What the steps share."""

    approval: Approval | None = None
    title: str = ""


@step
async def draft(topic: str) -> str:
    return f"All about {topic}."


@step
async def publish(text: Any, *, context: Article) -> str:
    if context.approval is None or not context.approval.approved:
        reason = context.approval.reason if context.approval else "nobody asked"
        return f"not published: {reason or 'no reason given'}"
    return f"published as {context.title!r}"


def pipeline() -> Any:
    """A draft, two questions at once, and what follows from the answers."""
    ask = Step.human_in_the_loop
    return (
        draft
        >> Step.parallel(
            "review",
            {
                "editor": ask("approve", "Publish {{ previous_step }}", Approval, sink_to="approval"),
                "desk": ask(
                    "title",
                    "A title for {{ previous_step }}",
                    str,
                    sink_to="title",
                    timeout_s=3600,
                    default="Untitled",
                ),
            },
        )
        >> publish
    )


def show(paused: PipelineResult[Any, Any]) -> None:
    """Print what the run waits for."""
    print(f"the run is {paused.status}; it waits for:")
    for pause in paused.pauses:
        print(f"  {pause.id}: {pause.message}")


def main() -> None:
    """Run until the questions, answer one after the other, print the end."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--approve", choices=["yes", "no"], default="yes")
    arguments.add_argument("--title", default="Tea")
    given = arguments.parse_args()

    runner = Flujo(pipeline(), context_model=Article)
    paused = runner.run("tea")
    show(paused)
    editor, desk = (pause.id for pause in paused.pauses)
    still = runner.resume(paused, answers={editor: {"approved": given.approve == "yes"}})
    show(still)
    done = runner.resume(still, answers={desk: given.title})
    print(done.output)


if __name__ == "__main__":
    main()
