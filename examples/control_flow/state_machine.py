"""A state machine: a draft is reviewed and revised until it is accepted. Run it: `python state_machine.py`."""

from flujo import Flujo, step
from flujo.domain.dsl import StateMachineStep, Transition


@step
async def draft(topic: str) -> str:
    return f"{topic}: a draft"


@step
async def review(text: str) -> str:
    return text


@step
async def revise(text: str) -> str:
    return f"{text}, revised"


machine = StateMachineStep(
    "article",
    {"draft": draft, "review": review, "revise": revise},
    "draft",
    end_states=["accepted"],
    transitions=[
        Transition("draft", "review"),
        Transition("review", "accepted", when=lambda text: text.count("revised") == 2),
        Transition("review", "revise"),
        Transition("revise", "review"),
    ],
)

if __name__ == "__main__":
    result = Flujo(machine).run("loops")
    print(result.output, [one.name for one in result.step_history[0].step_history])
