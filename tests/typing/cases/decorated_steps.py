"""`@step` gives `Step[I, O]` of a function's input and awaited output. A mistake is marked `# error`."""

from typing import assert_type

from pydantic import BaseModel

from flujo.domain.dsl import Step, step


class Context(BaseModel):
    seen: int = 0


class Resources:
    model: str = "small"


@step
async def parse(text: str) -> int:
    return int(text)


@step
def half(number: int) -> float:
    return number / 2


@step(name="shout", timeout_s=3, max_retries=0, updates_context=False)
async def upper(text: str) -> str:
    return text.upper()


@step(inline=True)
def length(text: str) -> int:
    return len(text)


@step
async def count(text: str, context: Context) -> int:
    context.seen += 1
    return context.seen


@step
async def count_by_keyword(text: str, *, context: Context) -> int:
    return context.seen


@step
async def optional_context(text: str, context: Context | None = None) -> int:
    return 0 if context is None else context.seen


@step
def ask(text: str, resources: Resources) -> bytes:
    return resources.model.encode()


@step(timeout_s=1)
async def both(text: str, *, context: Context, resources: Resources) -> list[str]:
    return [text, resources.model, str(context.seen)]


@step
async def nothing(text: str) -> None:
    return None


@step
async def maybe(text: str) -> int | None:
    return None


assert_type(parse, Step[str, int])
assert_type(half, Step[int, float])
assert_type(upper, Step[str, str])
assert_type(length, Step[str, int])
assert_type(count, Step[str, int])
assert_type(count_by_keyword, Step[str, int])
assert_type(optional_context, Step[str, int])
assert_type(ask, Step[str, bytes])
assert_type(both, Step[str, list[str]])
assert_type(nothing, Step[str, None])
assert_type(maybe, Step[str, int | None])


class Service:
    @step
    async def fetch(self, key: str) -> bytes:
        return key.encode()

    @step(inline=True)
    def decode(self, raw: bytes) -> str:
        return raw.decode()

    @step
    async def remember(self, raw: bytes, context: Context) -> str:
        return str(context.seen)


assert_type(Service().fetch, Step[str, bytes])
assert_type(Service().decode, Step[bytes, str])
assert_type(Service().remember, Step[bytes, str])

step(max_retrys=3)  # error
step(timeout_s="soon")  # error
step("name")  # error
print(parse.max_retries)  # error
parse.run("1")  # error
