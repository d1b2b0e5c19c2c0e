"""A loop: a number is halved until it is small enough. Run it: `python loop.py`."""

from flujo import Flujo, Step, step


@step
async def halve(number: int) -> int:
    return number // 2


loop = Step.loop_until("halve until small", halve, lambda number, context: number < 10, max_loops=20)

if __name__ == "__main__":
    result = Flujo(loop).run(1000)
    whole = result.step_history[0]
    print(result.output, whole.metadata_, [one.output for one in whole.step_history])
