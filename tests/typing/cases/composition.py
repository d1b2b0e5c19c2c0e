"""`a >> b` composes, and a mismatch is an error. Lines marked `# error` are mistakes."""

from typing import Any, assert_type

from flujo.domain.dsl import Pipeline, Step, StepConfig, SubPipelineStep, step


class Animal:
    pass


class Dog(Animal):
    pass


@step
async def parse(text: str) -> int:
    return int(text)


@step
def half(number: int) -> float:
    return number / 2


@step
def show(number: float) -> str:
    return str(number)


@step
async def adopt(name: str) -> Dog:
    return Dog()


@step
async def feed(animal: Animal) -> bool:
    return True


@step
async def anything(value: object) -> str:
    return str(value)


assert_type(parse >> half, Pipeline[str, float])
assert_type(parse >> half >> show, Pipeline[str, str])
assert_type(parse >> (half >> show), Pipeline[str, str])
assert_type((parse >> half) >> (show >> parse), Pipeline[str, int])
assert_type(adopt >> feed, Pipeline[str, bool])
assert_type(parse >> anything, Pipeline[str, str])

show >> half  # error
(parse >> half) >> parse  # error
parse >> (parse >> half)  # error
feed >> show >> parse >> parse  # error
parse >> 3  # error

nested = (parse >> half).as_step("nested")
assert_type(nested, SubPipelineStep[str, float])
assert_type(nested >> show, Pipeline[str, str])
nested >> parse  # error

assert_type(Pipeline.from_step(parse), Pipeline[str, int])
assert_type(Pipeline(steps=[parse, half]), Pipeline[Any, Any])
declared: Pipeline[str, float] = Pipeline(steps=[parse, half])
plain: Pipeline = parse >> half
wrong: Pipeline[int, int] = parse >> half  # error

assert_type(parse.fallback(parse), Step[str, int])
parse.fallback(half)  # error

configured: Step[str, int] = Step("configured", parse.agent, config=StepConfig(max_retries=2, timeout_s=1.5))
StepConfig(max_retries="2")  # error
StepConfig(timeout=2)  # error
