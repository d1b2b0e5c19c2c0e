"""Rate limits: calls wait for their turn, shared by name, against a real server that counts."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections import deque
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from flujo import Flujo, Pipeline, RateLimit, Step, StepConfig, UsageLimits
from flujo.application._outcomes import retry_after
from flujo.domain.models import PipelineContext
from flujo.domain.plugins import PluginOutcome
from flujo.exceptions import ConfigurationError
from tests.support import virtual_time


class FastLoop(asyncio.SelectorEventLoop):
    """A minute of it lasts 2.4 seconds, for everything that is on it. The shorter it is, the longer are the machine's
    pauses: a request that is on its way for six seconds of it is more than a limit allows for.
    """

    SCALE = 25.0

    def time(self) -> float:
        return super().time() * self.SCALE

    def __init__(self) -> None:
        super().__init__()
        select = self._selector.select
        self._selector.select = lambda timeout=None: select(timeout and timeout / self.SCALE)


def on_a_fast_loop(main: Coroutine[Any, Any, Any]) -> Any:
    loop = FastLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


class Server:
    """Answers so many requests in any minute of its loop, and refuses the others."""

    def __init__(self, a_minute: int) -> None:
        self.a_minute = a_minute
        self.lately: deque[float] = deque()
        self.answered = self.refused = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time()
        while self.lately and now - self.lately[0] >= 60:
            self.lately.popleft()
        wait = 60 - (now - self.lately[0]) if len(self.lately) >= self.a_minute else None
        if wait is None:
            self.lately.append(now)
            self.answered += 1
            head = "HTTP/1.1 200 OK\r\n"
        else:
            self.refused += 1
            head = f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {wait + 1:.0f}\r\n"
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{head}Content-Length: 2\r\nConnection: close\r\n\r\nok".encode())
        await writer.drain()
        writer.close()


class Refused(Exception):
    def __init__(self, wait: float) -> None:
        super().__init__("429 Too Many Requests")
        self.retry_after = wait


class Client:
    def __init__(self, port: int, rate_limit: RateLimit | None = None) -> None:
        self.port = port
        self.rate_limit = rate_limit

    async def run(self, item: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reply = (await reader.read()).decode()
        writer.close()
        if "Retry-After: " in reply:
            raise Refused(float(reply.split("Retry-After: ")[1].split("\r\n")[0]))
        return item


class Items(PipelineContext):
    items: list[int] = []


async def ask_all(server: Server, limit: RateLimit | None, count: int, retries: int = 0) -> Any:
    serving = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=1000)
    async with serving:
        client = Client(serving.sockets[0].getsockname()[1], limit)
        step = Step[Any, Any]("ask", client, max_retries=retries)
        everything = Step.map_over("all", Pipeline([step]), iterable_input="items", max_concurrency=20)
        runner = Flujo(everything, context_model=Items, initial_context_data={"items": list(range(count))})
        return await runner.run_async(None)


def test_two_hundred_items_against_a_server_of_sixty_a_minute_are_never_refused() -> None:
    server = Server(60)
    result = on_a_fast_loop(ask_all(server, RateLimit("sixty", requests_per_minute=60), 200))
    assert result.success
    assert (server.answered, server.refused) == (200, 0)


def test_without_a_limit_the_server_refuses() -> None:
    server = Server(60)
    assert not on_a_fast_loop(ask_all(server, None, 200)).success
    assert server.refused > 0


# --- on virtual time


class Slow:
    """Takes a second, and knows how many of it were under way at once."""

    def __init__(self) -> None:
        self.now = self.most = self.calls = 0

    async def run(self, data: Any) -> Any:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(1)
        finally:
            self.now -= 1
        return data


def elapsed(main: Coroutine[Any, Any, Any]) -> tuple[Any, float]:
    async def timed() -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        return await main, loop.time()

    result: tuple[Any, float] = virtual_time.run(timed())
    return result


def test_steps_runs_and_runners_share_a_limit_by_its_name() -> None:
    slow = Slow()
    limit = RateLimit("shared", max_concurrent=2)
    runners = [Flujo(Step[Any, Any]("slow", slow, rate_limit=limit)) for _ in range(2)]

    async def main() -> None:
        await asyncio.gather(*(runners[n % 2].run_async(n) for n in range(6)))

    _, seconds = elapsed(main())
    assert (slow.most, seconds) == (2, 3)


def test_a_runner_s_limits_hold_for_every_step_beside_the_step_s() -> None:
    slow = Slow()
    one = RateLimit("of a step", max_concurrent=1)
    branches = {
        "a": Step[Any, Any]("a", slow),
        "b": Step[Any, Any]("b", slow, rate_limit=one),
        "c": Step[Any, Any]("c", slow, rate_limit=one),
    }
    runner = Flujo(Step.parallel("all", branches), rate_limits=[RateLimit("of a runner", max_concurrent=2)])
    result, seconds = elapsed(runner.run_async(1))
    assert result.output == {"a": 1, "b": 1, "c": 1}
    assert (slow.most, seconds) == (2, 2)


def test_waiting_counts_against_the_deadline_and_not_against_the_time_limit() -> None:
    slow = Slow()
    limit = RateLimit("timed", requests_per_minute=1)
    first = Step[Any, Any]("first", slow, rate_limit=limit)
    second = Step[Any, Any]("second", slow, rate_limit=limit, timeout_s=1.5)
    result, seconds = elapsed(Flujo(first >> second).run_async(1))
    assert (result.success, seconds) == (True, 62)
    hurried = Step[Any, Any]("hurried", slow, rate_limit=limit, deadline_s=5)
    result, seconds = elapsed(Flujo(first >> hurried).run_async(1))
    assert (result.success, seconds, slow.calls) == (False, 6, 3)
    assert "deadline" in result.step_history[-1].feedback


def test_a_cancelled_run_leaves_the_line() -> None:
    slow = Slow()
    runner = Flujo(Step[Any, Any]("slow", slow, rate_limit=RateLimit("line", max_concurrent=1)))

    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(runner.run_async(n, run_id=f"line {n}")) for n in range(4)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        called_off = await runner.cancel("line 2")
        assert called_off.status == "cancelled"
        return await asyncio.gather(*tasks, return_exceptions=True)

    ends, seconds = elapsed(main())
    assert [type(end).__name__ for end in ends] == [
        "PipelineResult",
        "CancelledError",
        "RunCancelled",
        "PipelineResult",
    ]
    assert (slow.calls, seconds) == (2, 2)


def test_reserved_budget_of_a_call_that_waits_is_given_back_when_it_is_never_made() -> None:
    slow = Slow()
    limit = RateLimit("budget", requests_per_minute=1)
    first = Step[Any, Any]("first", slow, rate_limit=limit)
    hurried = Step[Any, Any]("hurried", slow, rate_limit=limit, deadline_s=5, expected_tokens=90)
    last = Step[Any, Any]("last", slow, expected_tokens=20)
    hurried.fallback_step = last
    runner = Flujo(first >> hurried, usage_limits=UsageLimits(total_tokens_limit=100))
    result, _ = elapsed(runner.run_async(1))
    assert not result.success
    usage = runner.get_performance_statistics()["usage_stats"]
    assert usage["reserved"]["tokens"] == usage["refunded"]["tokens"] == 90


class Busy(Exception):
    def __init__(self, **told: Any) -> None:
        super().__init__("busy")
        self.__dict__.update(told)


class Response:
    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize(
    "told", [{"retry_after": 30}, {"retry_after": "30"}, {"response": Response(retry_after="30")}]
)
def test_a_server_that_says_wait_holds_everybody_and_what_others_have_is_kept(told: dict[str, Any]) -> None:
    begun: list[tuple[str, float]] = []
    limit = RateLimit(f"held {sorted(told)} {told.get('retry_after')!r}", max_concurrent=2)

    async def ask(name: str) -> str:
        begun.append((name, asyncio.get_running_loop().time()))
        await asyncio.sleep(1)
        if len(begun) == 2 and name == "a":
            raise Busy(**told)
        return name

    def branch(name: str) -> Step[Any, Any]:
        async def asks(_: Any) -> str:
            return await ask(name)

        return Step[Any, Any](name, asks, rate_limit=limit)

    runner = Flujo(Step.parallel("all", {name: branch(name) for name in "abc"}))
    result, seconds = elapsed(runner.run_async(1))
    assert result.output == {"a": "a", "b": "b", "c": "c"}
    assert sorted(begun) == [("a", 0), ("a", 31), ("b", 0), ("c", 31)]
    assert seconds == 32


def test_a_date_of_retry_after_is_understood() -> None:
    in_a_minute = datetime.now(UTC) + timedelta(seconds=60)
    wait = retry_after(format_datetime(in_a_minute, usegmt=True))
    assert wait is not None and 50 < wait <= 60
    assert retry_after("Mon, 01 Jan 2001 00:00:00 GMT") == 0
    assert (retry_after("soon"), retry_after(Response()), retry_after(None)) == (None, None, None)


# --- definitions


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["requests_per_minute", "tokens_per_minute"])
def test_a_rate_that_is_none_is_refused(field: str, rate: float) -> None:
    with pytest.raises(ValueError, match=f"rate limit `model`: {field} must be a number above 0"):
        RateLimit("model", **{field: rate})


def test_what_limits_nothing_or_has_a_wrong_type_is_refused() -> None:
    with pytest.raises(ValueError, match="limits nothing"):
        RateLimit("model")
    with pytest.raises(ValueError, match="needs a name"):
        RateLimit("", max_concurrent=1)
    with pytest.raises(ValueError, match="max_concurrent must be"):
        RateLimit("model", max_concurrent=0)
    with pytest.raises(TypeError, match="requests_per_minute must be a number"):
        RateLimit("model", requests_per_minute=True)
    wrong: Any = "60"
    with pytest.raises(TypeError, match="must be a number above 0, or None, not '60'"):
        RateLimit("model", tokens_per_minute=wrong)
    with pytest.raises(TypeError, match="must be a RateLimit"):
        Step("s", print, rate_limit=wrong)
    with pytest.raises(TypeError, match="rate_limits must be RateLimits, not str"):
        Flujo(Step("s", print), rate_limits=wrong)


def test_limits_are_compared_shown_and_copied_by_what_they_say() -> None:
    limit = RateLimit("model", requests_per_minute=60, max_concurrent=2)
    same = RateLimit("model", 60.0, None, 2)
    assert limit == same == copy.copy(limit) == pickle.loads(pickle.dumps(limit))
    assert hash(limit) == hash(same) and limit != RateLimit("model", 61)
    assert repr(limit) == "RateLimit('model', requests_per_minute=60, max_concurrent=2)"


class Another:
    """An agent that a plugin asks for, with a rate limit of its own."""

    def __init__(self, rate_limit: RateLimit) -> None:
        self.rate_limit = rate_limit
        self.began: list[float] = []

    async def run(self, given: Any) -> str:
        self.began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        return "another"


def _asks_for(another: Another) -> Step[Any, Any]:
    def validate(data: Any) -> PluginOutcome:
        return PluginOutcome(success=data.get("output") == "another", redirect_to=_unless_done(data, another))

    async def first(given: Any) -> str:
        return "first"

    return Step("ask", first, plugins=[(validate, 0)], config=StepConfig(max_retries=0))


def _unless_done(data: Any, another: Another) -> Another | None:
    return None if data.get("output") == "another" else another


def test_an_agent_that_a_plugin_asks_for_waits_for_its_own_limit() -> None:
    another = Another(RateLimit("another", max_concurrent=1))
    runner = Flujo(_asks_for(another))

    async def main() -> list[Any]:
        return await asyncio.gather(*(runner.run_async(n) for n in range(3)))

    results = virtual_time.run(main())
    assert [result.output for result in results] == ["another"] * 3
    assert another.began == [0.0, 1.0, 2.0]


def test_an_agent_that_a_constructs_plugin_asks_for_waits_for_the_limit_of_all_steps() -> None:
    another = Another(RateLimit("its own", max_concurrent=9))

    def validate(data: Any) -> PluginOutcome:
        return PluginOutcome(success=data.get("output") == "another", redirect_to=_unless_done(data, another))

    both = Step.parallel("both", {"a": Step[Any, Any]("a", str)}, plugins=[(validate, 0)], max_retries=0)
    runner = Flujo(both, rate_limits=[RateLimit("of all", max_concurrent=1)])

    async def main() -> list[Any]:
        return await asyncio.gather(*(runner.run_async(n) for n in range(3)))

    results = virtual_time.run(main())
    assert [result.output for result in results] == ["another"] * 3
    assert another.began == [0.0, 1.0, 2.0]


def test_the_limit_of_an_agent_that_a_plugin_asks_for_must_not_contradict_another_one() -> None:
    another = Another(RateLimit("of both", max_concurrent=1))
    runner = Flujo(_asks_for(another), rate_limits=[RateLimit("of both", max_concurrent=2)])
    result = virtual_time.run(runner.run_async(1))
    assert not result.success
    assert (
        "`of both` is defined as 1 at once here and as 2 at once elsewhere" in result.step_history[0].feedback
    )
    assert another.began == []


def test_two_definitions_of_one_name_are_refused() -> None:
    def runner(rate: float) -> Flujo[Any, Any]:
        return Flujo(Step[Any, Any]("s", str, rate_limit=RateLimit("twice", requests_per_minute=rate)))

    first = runner(60)
    assert first.run(1).success
    with pytest.raises(ConfigurationError, match="`twice` is defined as 30 requests a minute here and as 60"):
        runner(30).run(1)
    assert first.run(1).success


def test_a_construct_calls_no_agent_and_takes_no_rate_limit() -> None:
    inner = {"a": Step[Any, Any]("a", str)}
    parallel = Step.parallel("p", inner, rate_limit=RateLimit("part", max_concurrent=1))
    with pytest.raises(
        ConfigurationError, match="has a rate_limit, which only a step with an agent can have"
    ):
        Flujo(parallel).run(1)
