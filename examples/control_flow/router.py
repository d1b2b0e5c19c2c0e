"""A router: it names the branches that a text needs, and they run at the same time. Run it: `python router.py`."""

from flujo import Flujo, Step, step


async def choose(text: str) -> list[str]:
    return [name for name, wanted in (("words", True), ("digits", any(c.isdigit() for c in text))) if wanted]


@step
async def words(text: str) -> int:
    return len(text.split())


@step
async def digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


count = Step.dynamic_parallel_branch("count", choose, {"words": words, "digits": digits})

if __name__ == "__main__":
    print(Flujo(count).run("two words").output)
    print(Flujo(count).run("room 101").output)
