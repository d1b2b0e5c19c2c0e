"""Refinement: a text is rewritten until a critic is content. Run it: `python refine_until.py`."""

from typing import Any

from flujo import Flujo, Step, step
from flujo.domain.models import RefinementCheck


@step
async def write(given: dict[str, Any]) -> str:
    return f"{given['original_input']}{given['feedback'] or ''}"


@step
async def critic(text: str) -> RefinementCheck:
    return RefinementCheck(is_complete=text.endswith("!"), feedback="!")


refine = Step.refine_until("greeting", write, critic, max_refinements=3)

if __name__ == "__main__":
    print(Flujo(refine).run("hello").output)
