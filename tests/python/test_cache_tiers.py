"""Results kept outside the process: in a file, on a Redis server."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from redis_server import RedisServer, redis_server

from flujo import Flujo, InMemoryCache, PipelineContext, RedisCache, SQLiteCache, Step, step

MADE: list[Any] = []


class Answer(BaseModel):
    text: str
    parts: tuple[int, ...] = ()


class Hidden(BaseModel):
    key: SecretStr


class Tenants(PipelineContext):
    tenant: str = "a"
    seen_at: float = 0.0


async def answer(given: Any) -> Answer:
    MADE.append(given)
    return Answer(text=str(given), parts=(1, 2))


async def of_tenant(given: Any, *, context: Tenants) -> str:
    MADE.append(context.tenant)
    return context.tenant


async def secret(given: Any) -> Hidden:
    MADE.append(given)
    return Hidden(key=SecretStr("canary"))


async def local_class(given: Any) -> Any:
    class Local(BaseModel):
        x: int = 1

    MADE.append(given)
    return Local()


@step
async def decorated(given: int) -> int:
    MADE.append(given)
    return given


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    MADE.clear()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["sqlite", "redis"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer) -> Callable[[], InMemoryCache]:
    """Makes a cache whose memory is empty, on one and the same second tier."""
    if request.param == "sqlite":
        return lambda: SQLiteCache(tmp_path / "results.db", timeout_s=60)
    prefix = f"{request.node.name}:"
    return lambda: RedisCache(server.url, prefix=prefix, timeout_s=60)


async def asked(cached: Step[Any, Any], given: Any = 1, **data: Any) -> Any:
    runner = Flujo(cached, context_model=Tenants)
    result = await runner.run_async(given, initial_context_data=data)
    assert result.success
    backend: Any = getattr(cached, "cache_backend", None)
    await backend.flush()
    return result.step_history[0]


async def test_a_result_is_found_by_a_cache_that_never_saw_it_made(fresh: Callable[[], Any]) -> None:
    for function, by_name in ((answer, True), (decorated, True), (lambda x: [x], False)):
        version = None if by_name else "1"

        def cached(function: Any = function, version: str | None = version) -> Step[Any, Any]:
            wrapped = function if isinstance(function, Step) else Step("s", function)
            return Step.cached(wrapped, fresh(), version=version)

        first, second = await asked(cached()), await asked(cached())
        assert (first.cache_hit, second.cache_hit, second.output) == (False, True, first.output)
        assert type(second.output) is type(first.output)
        assert not (await asked(cached(), 2)).cache_hit


async def test_a_result_is_found_in_memory_the_second_time_and_isolated_from_the_first(
    fresh: Callable[[], Any],
) -> None:
    await asked(Step.cached(Step("s", answer), fresh()))
    cached = Step.cached(Step("s", answer), fresh())
    first = await asked(cached)
    first.output.text = "changed"
    second = await asked(cached)
    assert (second.output.text, second.cache_hit) == ("1", True)
    assert cached.cache_backend.statistics()["second_tier"]["hits"] == 1


async def test_versions_and_names_tell_steps_apart(fresh: Callable[[], Any]) -> None:
    assert not (await asked(Step.cached(Step("s", answer), fresh(), version="1"))).cache_hit
    assert not (await asked(Step.cached(Step("s", answer), fresh(), version="2"))).cache_hit
    assert not (await asked(Step.cached(Step("t", answer), fresh(), version="1"))).cache_hit
    assert (await asked(Step.cached(Step("s", answer), fresh(), version="1"))).cache_hit


async def test_what_a_step_reads_of_the_context_is_known_in_the_second_tier_too(
    fresh: Callable[[], Any],
) -> None:
    tenants = ("a", "b", "a", "b")
    for place, tenant in enumerate(tenants):
        cached = Step.cached(Step("s", of_tenant), fresh())
        found = await asked(cached, tenant=tenant, seen_at=float(place))
        assert (found.output, found.cache_hit) == (tenant, place >= 2)
    assert MADE == ["a", "b"]


async def test_a_saved_result_says_what_it_saved(fresh: Callable[[], Any]) -> None:
    from flujo.domain.agent_result import FlujoAgentResult

    async def priced(given: Any) -> FlujoAgentResult:
        return FlujoAgentResult(output=given, cost_usd=0.02, token_counts=100)

    for hit in (False, True):
        found = await asked(Step.cached(Step("s", priced), fresh(), version="1"))
        assert (found.cache_hit, found.cost_usd) == (hit, 0.0 if hit else 0.02)
        assert (found.saved_cost_usd, found.saved_tokens) == ((0.02, 100) if hit else (0.0, 0))


async def test_a_step_that_only_this_process_knows_stays_in_memory_with_one_warning(
    fresh: Callable[[], Any],
) -> None:
    async def local(given: Any) -> Any:
        MADE.append(given)
        return given

    cached = Step.cached(Step("s", local), fresh())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            await asked(cached)
            Flujo(cached).plan()
    assert [str(warning.message).count("version='1'") for warning in told] == [2]
    assert MADE == [1]
    assert cached.cache_backend.statistics()["second_tier"]["stored"] == 0


@pytest.mark.parametrize("function", [secret, local_class])
async def test_what_cannot_be_stored_stays_in_memory_and_a_reason_is_counted(
    function: Any, fresh: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    cached = Step.cached(Step("s", function), fresh())
    with caplog.at_level(logging.WARNING, "flujo.run"):
        assert [(await asked(cached)).cache_hit for _ in range(2)] == [False, True]
    statistics = cached.cache_backend.statistics()["second_tier"]
    assert (statistics["stored"], statistics["unstored"]) == (0, {"output": 1})
    assert len(caplog.records) == 1
    assert "canary" not in caplog.text
    assert not (await asked(Step.cached(Step("s", function), fresh()))).cache_hit


async def test_a_result_expires_in_the_second_tier_too(fresh: Callable[[], Any]) -> None:
    stored = Step.cached(Step("s", answer), fresh(), ttl_s=3_600)
    await asked(stored)
    found = Step.cached(Step("s", answer), fresh(), ttl_s=0)
    assert (await asked(found)).cache_hit
    # Not for ever, though this step would keep it so: it is as good as it was when it was stored.
    assert found.cache_backend.statistics()["second_tier"]["hits"] == 1


async def test_concurrent_runs_ask_the_second_tier_once(fresh: Callable[[], Any]) -> None:
    await asked(Step.cached(Step("s", answer), fresh()))
    cached = Step.cached(Step("s", answer), fresh())
    runner = Flujo(cached)
    results = await asyncio.gather(*(runner.run_async(1) for _ in range(200)))
    assert all(result.step_history[0].cache_hit for result in results)
    assert MADE == [1]
    assert cached.cache_backend.statistics()["second_tier"]["hits"] == 1


async def test_a_server_that_dies_in_the_middle_is_done_without_and_used_again_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with redis_server() as server:
        cached = Step.cached(Step("s", answer), RedisCache(server.url, timeout_s=60, retry_after_s=0))
        cache = cached.cache_backend
        assert [(await asked(cached)).cache_hit for _ in range(2)] == [False, True]
        server.kill()
        # What is in memory is found, what isn't is made: runs go on.
        assert [(await asked(cached, given)).cache_hit for given in (1, 2, 2, 3)] == [
            True,
            False,
            True,
            False,
        ]
        dead = cache.statistics()["second_tier"]
        assert dead["errors"] > 0
        assert str(server.port) in dead["last_error"]
        server.start()
        assert [(await asked(cached, given)).cache_hit for given in (3, 4)] == [True, False]
        assert cache.statistics()["second_tier"]["errors"] == dead["errors"]
        again = Step.cached(Step("s", answer), RedisCache(server.url, timeout_s=60))
        assert [(await asked(again, given)).cache_hit for given in (4, 1)] == [True, False]


async def test_a_server_that_is_away_is_not_asked_again_and_again() -> None:
    with redis_server() as server:
        server.kill()
        cached = Step.cached(Step("s", answer), RedisCache(server.url, timeout_s=60, retry_after_s=3_600))
        for given in range(20):
            await asked(cached, given)
        assert cached.cache_backend.statistics()["second_tier"]["errors"] == 1


async def test_the_monitor_says_once_that_a_server_is_away() -> None:
    alerts: list[Any] = []
    with redis_server() as server:
        server.kill()
        cached = Step.cached(Step("s", answer), RedisCache(server.url, timeout_s=60, retry_after_s=0))
        runner = Flujo(cached, on_alert=alerts.append)
        for given in range(4):
            assert (await runner.run_async(given)).success
        statistics = runner.get_performance_statistics()
    kinds = [(alert["kind"], alert["part"]) for alert in statistics["alerts"]]
    assert kinds == [("degraded", "cache")]
    assert str(server.port) in statistics["alerts"][0]["message"]


async def test_bytes_that_were_damaged_or_come_from_elsewhere_are_no_result(server: RedisServer) -> None:
    def cached() -> Any:
        return Step.cached(Step("s", answer), RedisCache(server.url, prefix="damage:", timeout_s=60))

    await asked(cached())
    for damage in ("rubbish", ""):
        script = (
            "for _, key in ipairs(redis.call('KEYS', 'damage:*')) do "
            f"redis.call('SET', key, {damage!r} .. string.sub(redis.call('GET', key), 3)) end"
        )
        subprocess.run(
            ["redis-cli", "-p", str(server.port), "EVAL", script, "0"], check=True, capture_output=True
        )
        damaged = cached()
        assert not (await asked(damaged)).cache_hit
        assert damaged.cache_backend.statistics()["second_tier"]["unstored"] == {"unreadable": 1}
        assert (await asked(cached())).cache_hit, "what was made anew has taken its place"


def test_a_file_that_is_no_cache_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("my notes, not a cache of results")
    with pytest.raises(OSError, match=r"notes\.txt is no cache of results"):
        SQLiteCache(notes)
    assert notes.read_text() == "my notes, not a cache of results"
    with pytest.raises(OSError, match="missing"):
        SQLiteCache(tmp_path / "missing" / "results.db")
    with pytest.raises(ValueError, match="no name"):
        SQLiteCache(":memory:")


def test_credentials_of_an_address_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--requirepass", "right-horse") as server:
        wrong = RedisCache(server.url.replace("redis://", "redis://canary-user:canary-word@"), timeout_s=60)
        cached = Step.cached(Step("s", answer), wrong)
        with caplog.at_level(logging.DEBUG):
            asyncio.run(asked(cached))
        shown = f"{wrong!r} {cached!r} {wrong.statistics()} {caplog.text}"
    assert "canary" not in shown
    assert wrong.statistics()["second_tier"]["errors"] > 0
    with pytest.raises(ValueError, match="redis://host:6379/0") as refused:
        RedisCache("redis://canary:canary@host:port/0")
    assert "canary" not in str(refused.value)


WRITER = """
import asyncio, importlib, sys
sys.path.insert(0, {root!r})
tiers = importlib.import_module({name!r})
from flujo import Flujo, SQLiteCache, Step

async def main():
    cached = Step.cached(Step("s", tiers.answer), SQLiteCache({path!r}, timeout_s=60))
    runner = Flujo(cached)
    for given in range(20):
        result = await runner.run_async(given)
        assert result.output == tiers.Answer(text=str(given), parts=(1, 2))
    await cached.cache_backend.flush()
    print(cached.cache_backend.statistics()["second_tier"]["errors"])

asyncio.run(main())
"""


async def test_several_processes_share_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "results.db")
    root = str(Path(__file__).parents[2])
    source = WRITER.format(root=root, name=__name__, path=path)
    environment = {**os.environ, "PYTHONPATH": str(Path(root, "tests/support"))}
    writers = [
        subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    said = [writer.communicate()[0].strip() for writer in writers]
    assert said == ["0"] * 4
    for given in range(20):
        found = await asked(Step.cached(Step("s", answer), SQLiteCache(path, timeout_s=60)), given)
        assert found.cache_hit, "keys differ between processes"


def test_a_forked_process_uses_the_same_cache(fresh: Callable[[], Any]) -> None:
    cached = Step.cached(Step("s", answer), fresh())
    asyncio.run(asked(cached))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            cached.cache_backend.clear()
            found = asyncio.run(asked(cached))
            other = asyncio.run(asked(cached, 2))
            status = 0 if found.cache_hit and not other.cache_hit else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert asyncio.run(asked(cached)).cache_hit
    again = Step.cached(Step("s", answer), fresh())
    assert asyncio.run(asked(again, 2)).cache_hit, "the child's result is there"


def test_a_cache_goes_on_on_another_loop(fresh: Callable[[], Any]) -> None:
    cached = Step.cached(Step("s", answer), fresh())
    for given in (1, 1, 2):
        asyncio.run(asked(cached, given))
    assert MADE == [1, 2]
