"""One of several branches, by a function or by an expression. Run it: `python conditional.py`."""

from flujo import Flujo, Step, step


@step
async def answer(text: str) -> str:
    return f"an answer to {text!r}"


@step
async def note(text: str) -> str:
    return f"noted: {text}"


def kind(text: str, _context: object) -> str:
    return "question" if text.endswith("?") else "statement"


branches = {"question": answer, "statement": note}
by_function = Step.branch_on("by_function", kind, branches)
by_expression = Step.branch_on(
    "by_expression",
    branches={"true": answer, "false": note},
    condition_expression="input | length < 10",
)

if __name__ == "__main__":
    print(Flujo(by_function).run("what time is it?").output)
    print(Flujo(by_expression).run("it is late, so late").output)
