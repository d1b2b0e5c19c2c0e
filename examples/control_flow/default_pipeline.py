"""A checklist, a solution, and a check of the one against the other. Run it: `python default_pipeline.py`."""

from typing import Any

from flujo import Flujo, make_default_pipeline
from flujo.domain.candidates import Checklist, ChecklistItem


# Usually the three are model agents.
async def review(prompt: str) -> Checklist:
    return Checklist(items=[ChecklistItem(description=item) for item in (prompt, ".")])


async def solve(task: Any) -> str:
    if isinstance(task, str):
        return "A note"
    missing = [said.partition(":")[0] for said in task["feedback"]]
    return " ".join([task["solution"], *missing])


async def validate(work: dict[str, Any]) -> Checklist:
    items = [ChecklistItem(description=item.description) for item in work["checklist"].items]
    for item in items:
        item.passed = item.description in work["solution"]
    return Checklist(items=items)


default_pipeline = make_default_pipeline(review, solve, validate)

if __name__ == "__main__":
    result = Flujo(default_pipeline).run("tea")
    print(result.output.solution, result.output.score)
