"""Branches at the same time, then a step that gets all their outputs by name. Run it: `python parallel.py`."""

from flujo import Flujo, Step, step


@step
async def words(text: str) -> int:
    return len(text.split())


@step
async def letters(text: str) -> int:
    return sum(c.isalpha() for c in text)


@step
async def digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


@step
async def ratio(counts: dict[str, int]) -> str:
    return f"{counts['letters'] / counts['words']} letters a word"


count = Step.parallel("count", {"words": words, "letters": letters, "digits": digits})
# Of the three outputs the next step needs two.
pick = Step.gather("pick", wait_for=["words", "letters"])

if __name__ == "__main__":
    print(Flujo(count).run("room 101").output)
    print(Flujo(count >> pick >> ratio).run("two words").output)
