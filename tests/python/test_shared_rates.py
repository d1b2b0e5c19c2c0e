"""Rate limits that several processes share by a real Redis server."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flujo import Flujo, RateLimit, Step, StepConfig
from flujo.agents import Chat
from flujo.domain.alerts import Alert
from flujo.exceptions import ConfigurationError
from tests.support.redis_server import redis_server

PROCESS = """
import asyncio, sys
from flujo import Flujo, RateLimit, Step, StepConfig

async def call(x):
    return x

async def main():
    limit = RateLimit("service", requests_per_minute=5, redis=sys.argv[1])
    step = Step("call", call, config=StepConfig(rate_limit=limit, deadline_s=3, max_retries=0))
    results = await asyncio.gather(*(Flujo(step).run_async(n) for n in range(4)))
    print(sum(result.success for result in results))

asyncio.run(main())
"""


async def _call(x: Any) -> Any:
    return x


BLUEPRINT = """
steps:
  - name: greet
    agent: {{type: template, template: 'Hello {{{{ input }}}}'}}
    config:
      max_retries: 0
      deadline_s: 1
      rate_limit: {{name: greetings, requests_per_minute: 1, redis: '{url}'}}
"""


def test_processes_that_run_a_blueprint_share_the_limit_of_the_server_that_it_names(tmp_path: Path) -> None:
    blueprint = tmp_path / "greet.yaml"
    with redis_server() as server:
        blueprint.write_text(BLUEPRINT.format(url=server.url))
        command = (sys.executable, "-m", "flujo", "run", str(blueprint), "--input", "Ada")
        first, second = (subprocess.run(command, capture_output=True, text=True) for _ in range(2))
    assert (first.returncode, first.stdout.strip()) == (0, "Hello Ada")
    assert second.returncode == 1
    assert "greet" in second.stderr


def test_two_processes_make_no_more_calls_together_than_one_may() -> None:
    with redis_server() as server:
        command = (sys.executable, "-c", PROCESS, server.url)
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        made = [int(process.communicate()[0]) for process in processes]
    assert sum(made) == 5, made
    assert all(count <= 4 for count in made)


async def test_while_the_server_is_away_the_process_goes_on_by_itself_and_the_monitor_says_so() -> None:
    told: list[Alert] = []
    heard = threading.Event()

    def on_alert(alert: Alert) -> None:
        told.append(alert)
        heard.set()

    with redis_server() as server:
        address = server.url.replace("redis://", "redis://default:@")
        limit = RateLimit("gone", requests_per_minute=1e9, redis=address)
        runner = Flujo(Step("call", _call, config=StepConfig(rate_limit=limit)), on_alert=on_alert)
        assert (await runner.run_async(1)).output == 1
        assert not runner.get_performance_statistics()["alerts"]
        server.kill()
        assert (await runner.run_async(2)).output == 2
        assert await asyncio.to_thread(heard.wait, 30)
        assert [(alert.kind, alert.part) for alert in told] == [("degraded", "usage")]
        said = str(runner.get_performance_statistics()["alerts"][0])
        assert "kept by this process alone, `gone`" in said
        assert "can't be reached" in said
        server.start()
        while "alone" in str(runner.get_performance_statistics()["optimizations"]["usage"]):
            assert (await runner.run_async(3)).output == 3


def test_the_address_is_shown_without_its_password_and_goes_along_when_the_limit_is_pickled() -> None:
    limit = RateLimit("model", requests_per_minute=60, redis="redis://me:secret@localhost:6379/3")
    assert limit.redis == "redis://localhost:6379/3"
    assert "secret" not in repr(limit)
    copied = pickle.loads(pickle.dumps(limit))
    assert copied == limit
    assert limit != RateLimit("model", requests_per_minute=60)
    with pytest.raises(ValueError, match="redis://host:6379/0"):
        RateLimit("model", requests_per_minute=60, redis="not an address")


def test_a_chat_agent_has_a_rate_limit_of_its_own_which_its_step_keeps_to() -> None:
    limit = RateLimit("chat", requests_per_minute=60, max_concurrent=2)
    chat = Chat(base_url="http://127.0.0.1:9/v1", model="small", rate_limit=limit)
    assert chat.rate_limit == limit
    told = {"name": "chat", "requests_per_minute": 60.0, "max_concurrent": 2}
    assert chat.to_blueprint()["rate_limit"] == told
    assert pickle.loads(pickle.dumps(chat)).rate_limit == limit
    shared = RateLimit("chat", max_concurrent=2, redis="redis://me:secret@localhost:6379/0")
    chat_of_all = Chat(base_url="http://127.0.0.1:9/v1", model="small", rate_limit=shared)
    told = {"name": "chat", "max_concurrent": 2, "redis": "redis://localhost:6379/0"}
    assert chat_of_all.to_blueprint()["rate_limit"] == told
    with pytest.raises(ConfigurationError, match="chat"):
        other = RateLimit("chat", requests_per_minute=61)
        Flujo(Step("a", chat) >> Step("b", _call, config=StepConfig(rate_limit=other))).run("x")
