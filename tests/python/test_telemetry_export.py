"""What leaves the process: to real receivers, at its end, from its children, and never what it shouldn't be."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from canary import CANARY, leaks
from otlp_receiver import PATIENCE_S, grpc_receiver, http_receiver, one_tree, trees
from prometheus_server import prometheus

from flujo import Flujo, Step, Telemetry, current_step

DEAD = "http://127.0.0.1:9"
"""Nobody listens at the discard port."""


async def plus(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


def script(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, which must be its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, **environment},
    )


# --- OTLP


@pytest.mark.parametrize(
    ("receiver", "protocol"), [(http_receiver, "http/protobuf"), (grpc_receiver, "grpc")]
)
async def test_a_collector_gets_one_tree(receiver: Any, protocol: str) -> None:
    with receiver() as at:
        telemetry = Telemetry(
            otlp=at.endpoint, protocol=protocol, headers={"x-key": "of mine"}, service_name="weather"
        )
        fan = Step.parallel("fan", {"a": Step("one", plus), "b": Step("two", lambda x: x)})
        await Flujo(
            fan >> Step("last", lambda both: both["a"]), telemetry=telemetry, pipeline_name="p"
        ).run_async(1)
        assert telemetry.flush(PATIENCE_S)
        tree = one_tree(at.received.spans)
        assert {below.span.name for below in tree.below} == {"fan", "last"}
        assert {below.span.name for below in tree.find("fan")[0].below} == {"lane a", "lane b"}
        assert tree.span.resource["service.name"] == "weather"
        assert tree.span.scope == "flujo"
        assert {headers["x-key"] for headers in at.received.headers} == {"of mine"}
        assert telemetry.statistics()["flushes"] >= 1
        assert telemetry.shutdown(PATIENCE_S)
        assert telemetry.shutdown()


async def test_the_environment_names_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as at:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", at.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=of%20mine")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "named")
        telemetry = Telemetry(otlp=True)
        await Flujo(Step("one", plus), telemetry=telemetry).run_async(1)
        assert telemetry.flush(PATIENCE_S)
        assert one_tree(at.received.spans).span.resource["service.name"] == "named"
        assert at.received.headers[0]["x-key"] == "of mine"
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        silent = Telemetry(otlp=True)
        await Flujo(Step("one", plus), telemetry=silent).run_async(1)
        assert silent.flush(PATIENCE_S)
        assert len(at.received.spans) == 3


# --- the end of a process, and its children

RUNS = """
import sys
from flujo import Flujo, Step, Telemetry
telemetry = Telemetry(otlp=sys.argv[1], jsonl=sys.argv[2] if len(sys.argv) > 2 else None)
runner = Flujo(Step("one", lambda x: x + 1), telemetry=telemetry, pipeline_name="p")
assert runner.run(1).output == 2
"""


def test_what_waits_leaves_when_a_program_just_ends() -> None:
    with http_receiver() as at:
        done = script(RUNS, at.endpoint)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert one_tree(at.received.spans).names() == ["run p", ["one", ["attempt 1"]]]


def test_a_dead_or_a_hanging_collector_holds_up_neither_a_run_nor_the_end(tmp_path: Path) -> None:
    with http_receiver(hold=threading.Event()) as hanging, http_receiver(status=503) as failing:
        for name, endpoint in (("dead", DEAD), ("hangs", hanging.endpoint), ("fails", failing.endpoint)):
            lines = tmp_path / f"{name}.jsonl"
            done = script(RUNS, endpoint, str(lines))
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), name
        # What could be written was written.
        assert len((tmp_path / "dead.jsonl").read_text().splitlines()) == 3


async def test_a_collector_that_fails_is_told_of_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    with http_receiver(status=503) as at:
        telemetry = Telemetry(otlp=at.endpoint)
        runner = Flujo(Step("one", plus), telemetry=telemetry)
        for _ in range(3):
            assert (await runner.run_async(1)).output == 2
            await asyncio.to_thread(telemetry.flush, PATIENCE_S)
        assert telemetry.statistics()["spans_dropped"] == 9
        assert [record.name for record in caplog.records] == ["flujo.telemetry"]
        assert "otlp" in caplog.text


FORKS = """
import os, sys
from flujo import Flujo, Step, Telemetry
telemetry = Telemetry(otlp=sys.argv[1])
runner = Flujo(Step("one", lambda x: x + 1), telemetry=telemetry)
runner.run(1, run_id="before")
assert telemetry.flush(30)
child = os.fork()
if child == 0:
    import signal
    signal.alarm(30)
    runner.run(1, run_id="child")
    assert telemetry.statistics()["spans_started"] == 3
    sys.exit(0)
runner.run(1, run_id="parent")
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_child_process_exports_too() -> None:
    with http_receiver() as at:
        done = script(FORKS, at.endpoint, PYTHONWARNINGS="ignore")
        assert (done.returncode, done.stderr) == (0, "")
        runs = {tree.span.attributes["flujo.run.id"]: tree.names()[1:] for tree in trees(at.received.spans)}
        assert runs == {name: [["one", ["attempt 1"]]] for name in ("before", "child", "parent")}


CALLED = """
import sys
from flujo import Flujo, Step, Telemetry
telemetry = Telemetry(otlp=sys.argv[1])
Flujo(Step("inner", lambda x: x), telemetry=telemetry, pipeline_name="called").run(1, traceparent=sys.argv[2])
"""


async def test_two_processes_make_one_tree() -> None:
    with http_receiver() as at:

        def calls(x: int) -> int:
            traceparent = current_step().traceparent
            assert traceparent is not None
            assert script(CALLED, at.endpoint, traceparent).returncode == 0
            return x

        telemetry = Telemetry(otlp=at.endpoint)
        await Flujo(Step("calls", calls), telemetry=telemetry, pipeline_name="caller").run_async(1)
        await asyncio.to_thread(telemetry.flush, PATIENCE_S)
        assert one_tree(at.received.spans).names() == [
            "run caller",
            ["calls", ["attempt 1", ["run called", ["inner", ["attempt 1"]]]]],
        ]


# --- metrics


async def test_prometheus_scrapes_a_python_process() -> None:
    telemetry = Telemetry(prometheus=0)
    runner = Flujo(Step("one", plus), telemetry=telemetry, pipeline_name="p")
    for _ in range(7):
        await runner.run_async(1)
    assert telemetry.prometheus_address is not None
    with prometheus([telemetry.prometheus_address]) as server:
        (found,) = server.wait_for('flujo_runs_total{pipeline="p"}', bool)
        assert found["value"][1] == "7"
        await runner.run_async(1)
        server.wait_for('flujo_runs_total{pipeline="p"} == 8', bool)
    assert telemetry.shutdown(PATIENCE_S)
    assert telemetry.prometheus_address is None


def series(text: str) -> set[str]:
    """The series of a scrape: names with their labels."""
    return {line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


class Errors:
    """Fails with errors of five kinds in turn, each with a text of its own."""

    KINDS = (ValueError, KeyError, RuntimeError, OSError, ZeroDivisionError)

    def __init__(self) -> None:
        self.calls = 0

    async def run(self, x: str) -> str:
        self.calls += 1
        if self.calls % 2:
            raise self.KINDS[self.calls // 2 % 5](f"text {self.calls} {x}")
        return x


async def test_p26_ten_thousand_runs_have_as_many_series_as_the_first_few() -> None:
    async def same(x: str) -> str:
        return x

    telemetry = Telemetry(prometheus=True)
    runner = Flujo(
        Step("first", same) >> Step("second", same) >> Step("fails", Errors(), max_retries=0),
        telemetry=telemetry,
        pipeline_name="p",
    )
    for n in range(10):
        await runner.run_async(f"input {n}", run_id=f"run {n}")
    first = series(telemetry.metrics())
    for n in range(10, 10_000):
        await runner.run_async(f"input {n}", run_id=f"run {n}")
    text = telemetry.metrics()
    assert series(text) == first
    assert 'flujo_runs_total{pipeline="p"} 10000' in text
    for kind in Errors.KINDS:
        assert f'flujo_errors_total{{pipeline="p",error_type="{kind.__name__}"}} 1000' in text
    assert len(text) < 100_000
    assert "text" not in text.replace("# ", "") and "input" not in text and "run 1" not in text


async def test_runners_of_one_pipeline_are_counted_together_and_for_good() -> None:
    telemetry = Telemetry(prometheus=True)
    for _ in range(20):
        await Flujo(Step("one", plus), telemetry=telemetry, pipeline_name="p").run_async(1)
    assert 'flujo_runs_total{pipeline="p"} 20' in telemetry.metrics()
    assert telemetry.metrics().count("flujo_runs_total{") == 1


# --- the canary

PROGRAM = """
import asyncio, os, sys
from pydantic import SecretStr
from flujo import Flujo, Pipeline, PipelineContext, Step, Telemetry, UsageLimits

secret = sys.stdin.read()
os.environ["API_KEY"] = secret

class Context(PipelineContext):
    token: str = ""
    hidden: SecretStr = SecretStr("")

class Usage:
    input_tokens = 3
    output_tokens = 4

class Answer:
    usage = Usage()
    cost_usd = 0.5
    model = "small-1"
    def __init__(self, output):
        self.output = output

async def model(prompt, context):
    return Answer(f"{prompt} {context.token}")

async def fails(data):
    raise ValueError(f"no {data} {os.environ['API_KEY']}")

def crashes(data):
    raise KeyError(data)

flaky = Step("flaky", fails, max_retries=1)
flaky.fallback(Step("spare", lambda data: data))
pipeline = (
    Step("ask", model, updates_context=False)
    >> flaky
    >> Step.parallel("fan", {"a": Step("crashes", crashes, max_retries=0)})
)
telemetry = Telemetry(
    otlp=sys.argv[1],
    protocol=sys.argv[2],
    headers={"x-key": f"Bearer {secret}"},
    jsonl=sys.argv[3],
    prometheus=True,
    console=True,
)
runner = Flujo(
    pipeline,
    telemetry=telemetry,
    context_model=Context,
    initial_context_data={"token": secret, "hidden": secret},
)
result = runner.run(f"please {secret}", run_id="r1")
assert result.status == "failed"
assert telemetry.flush(30)
with open(sys.argv[4], "w") as file:
    file.write(telemetry.metrics())
    file.write(str(result.trace_tree))
"""


@pytest.mark.parametrize(
    ("receiver", "protocol"), [(http_receiver, "http/protobuf"), (grpc_receiver, "grpc")]
)
def test_a_secret_in_prompt_header_context_error_and_environment_leaves_nowhere(
    receiver: Any, protocol: str, tmp_path: Path
) -> None:
    with receiver() as at:
        endpoint = at.endpoint.replace("://", f"://user:{CANARY}@") if protocol != "grpc" else at.endpoint
        files = (str(tmp_path / "spans.jsonl"), str(tmp_path / "metrics"))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, endpoint, protocol, *files],
            input=CANARY,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        at.received.wait_for(8)
        assert "run " in done.stderr, "the console got the tree"
        assert (tmp_path / "spans.jsonl").stat().st_size > 0
        assert (tmp_path / "metrics").stat().st_size > 0
        places = {"stdout": done.stdout, "stderr": done.stderr, "files": tmp_path, "otlp": at.received.bodies}
        assert leaks(places) == []


async def test_content_leaves_when_it_is_asked_for(tmp_path: Path) -> None:
    async def answers(x: str) -> str:
        return f"{x}!"

    async def fails(x: str) -> str:
        raise ValueError(f"no {x}")

    lines = tmp_path / "spans.jsonl"
    telemetry = Telemetry(jsonl=lines, capture_content=True)
    runner = Flujo(Step("answers", answers) >> Step("fails", fails, max_retries=0), telemetry=telemetry)
    await runner.run_async("hello")
    assert telemetry.flush(PATIENCE_S)
    text = lines.read_text()
    assert "hello!" in text and "no hello!" in text
    assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


# --- bad input


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"otlp": "not an address"}, ValueError, "is no address of a collector"),
        ({"otlp": 4318}, TypeError, "otlp must be the address of a collector"),
        ({"otlp": DEAD, "protocol": "smoke"}, ValueError, "protocol must be 'http/protobuf' or 'grpc'"),
        ({"otlp": DEAD, "headers": {"a": "b\n"}}, ValueError, "header"),
        ({"otlp": DEAD, "timeout_s": 0}, ValueError, "timeout_s must be above 0"),
        ({"headers": {"a": "b"}}, ValueError, "give otlp too"),
        ({"prometheus": 70_000}, ValueError, "a port from 0 to 65535"),
        ({"prometheus": "nowhere:1"}, OSError, "no metrics can be served at nowhere:1"),
        ({"prometheus": 1.5}, TypeError, "prometheus must be a port"),
        ({"jsonl": "/nowhere/spans.jsonl"}, OSError, "/nowhere/spans.jsonl"),
    ],
)
def test_what_can_t_be_used_is_refused_at_once(options: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        Telemetry(**options)
