"""The options of a step on a construct: two branches are tried again together. Run it: `python whole_life.py`."""

from itertools import count

from flujo import Flujo, Step, step

attempts = count(1)


@step(max_retries=0)
async def flaky(number: int) -> int:
    if next(attempts) == 1:
        raise ConnectionError("not yet")
    return number * 2


@step
async def steady(number: int) -> int:
    return number + 1


both = Step.parallel("both", {"flaky": flaky, "steady": steady}, max_retries=2, timeout_s=5.0)
gathered = both >> Step.gather("doubled", wait_for=["flaky"])

if __name__ == "__main__":
    result = Flujo(gathered).run(21)
    print(result.output, result.step_history[0].attempts)
