"""Agents that ship with Flujo, from Python."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from flujo import Flujo, PipelineContext, Step
from flujo.agents import (
    AgentFailed,
    AgentFailedPermanently,
    Command,
    ExtractJson,
    ExtractRegex,
    GlobFiles,
    ReadFile,
    ShippedAgent,
    Template,
    WriteFile,
)
from flujo.exceptions import ConfigurationError, NonRetryableError


def at_once(coroutine: Any) -> Any:
    """The result of a coroutine that never waits."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return ended.value.value


@dataclass
class Point:
    x: int
    y: int


class Order(BaseModel):
    day: date
    points: list[Point]
    secret: SecretStr = SecretStr("never seen")
    internal: str = Field(default="left out", exclude=True)


def test_templates_and_extractors_finish_on_the_loops_own_thread_without_waiting() -> None:
    assert at_once(Template("Hello {{ input.name }}").run({"name": "Ada"})) == "Hello Ada"
    assert at_once(ExtractJson("/a/1").run('so: {"a": [1, 2]}')) == 2
    assert at_once(ExtractRegex(r"\d+", all=True).run("1 and 22")) == ["1", "22"]


def test_models_dataclasses_and_dates_are_given_as_plain_data() -> None:
    order = Order(day=date(2024, 2, 29), points=[Point(1, 2)])
    text = at_once(Template("{{ input | tojson }}").run({"order": order, 3: (1.5, None, True)}))
    assert json_in(text) == {
        "order": {"day": "2024-02-29", "points": [{"x": 1, "y": 2}], "secret": "**********"},
        "3": [1.5, None, True],
    }


def json_in(text: str) -> Any:
    return at_once(ExtractJson().run(text))


def test_what_cannot_be_given_is_named_with_its_place() -> None:
    agent = Template("{{ input }}")
    with pytest.raises(TypeError, match=r"the input\.a\[1\]\.b is of type object"):
        at_once(agent.run({"a": [0, {"b": object()}]}))
    with pytest.raises(ValueError, match=r"the input\[0\] is an integer beyond 64 bits"):
        at_once(agent.run([2**63]))
    with pytest.raises(TypeError, match=r"the input has the key 1\.5 of type float"):
        at_once(agent.run({1.5: 1}))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="the input is nested more than 128 levels deep, or holds itself"):
        at_once(agent.run(endless))


def test_a_context_is_turned_into_data_only_for_an_agent_that_mentions_it() -> None:
    assert at_once(Template("{{ input }}").run("a", context={"lock": object()})) == "a"
    with pytest.raises(TypeError, match=r"context\.lock is of type object"):
        at_once(Template("{{ context.lock }}").run("a", context={"lock": object()}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Template("{{ a"), "template agent, `template`: line 1"),
        (lambda: Command([]), "command agent, `args`: is empty"),
        (lambda: Command(["{{ input }}"]), r"command agent, `args\[0\]`: the program can't be a template"),
        (lambda: ExtractRegex("("), "extract agent, `regex.pattern`"),
        (lambda: GlobFiles(["../*"]), r"files agent, `glob.include\[0\]`"),
        (lambda: ReadFile(max_bytes=0), "files agent, `read.max_bytes`: must be at least 1"),
        (lambda: ReadFile(max_bytes="many"), "files agent: invalid type: string"),
        (lambda: Command(["true"], timeout_s=-1), "command agent, `timeout_s`"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_when_the_agent_is_made(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_one_text_where_a_list_belongs_is_refused() -> None:
    with pytest.raises(TypeError, match=r"args is one text; give a list of texts: args=\['ls -l'\]"):
        Command("ls -l")


def test_an_agent_shows_its_settings_and_survives_pickling() -> None:
    agent = ReadFile(root="src", max_bytes=10)
    assert repr(agent) == "ReadFile(root='src', max_bytes=10)"
    assert agent.to_blueprint() == {"type": "files", "read": {"root": "src", "max_bytes": 10}}
    copy = pickle.loads(pickle.dumps(agent))
    assert isinstance(copy, ShippedAgent)
    assert copy.to_blueprint() == agent.to_blueprint()


async def test_files_are_listed_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("")
    assert await GlobFiles(["**/*.txt"], root=tmp_path).run() == ["a.txt", "sub/b.txt"]
    assert await ReadFile(root=tmp_path).run("a.txt") == {
        "path": "a.txt",
        "lines": 2,
        "bytes": 8,
        "text": "one\ntwo\n",
    }
    assert await WriteFile("c/d.txt", root=tmp_path).run("text") == {"path": "c/d.txt", "bytes": 4}
    assert (tmp_path / "c" / "d.txt").read_text() == "text"


async def test_a_failure_that_would_come_again_is_not_retried(tmp_path: Path) -> None:
    step = Step("read", ReadFile(root=tmp_path), max_retries=3)
    result = await Flujo(step).run_async("missing.txt")
    assert (result.success, result.step_history[0].attempts) == (False, 1)
    error = result.step_history[0].error
    assert isinstance(error, AgentFailedPermanently)
    assert isinstance(error, NonRetryableError)
    assert "`missing.txt` can't be read" in str(error)


async def test_a_failing_command_is_retried() -> None:
    result = await Flujo(Step("fails", Command(["false"]), max_retries=2)).run_async("")
    assert (result.success, result.step_history[0].attempts) == (False, 3)
    assert isinstance(result.step_history[0].error, AgentFailed)


async def test_arguments_stay_one_argument_each_and_input_goes_to_stdin() -> None:
    count = Command(
        [sys.executable, "-c", "import sys; print(len(sys.argv) - 1)", "{{ input }}", "{{ input }}"]
    )
    assert await count.run("a b; echo c") == "2\n"
    assert await Command(["cat"], stdin="input", output="bytes").run(b"\xff\x00") == b"\xff\x00"


class Names(PipelineContext):
    names: list[str] = []


async def test_a_template_reads_the_context_of_its_run() -> None:
    greet = Template("{{ context.names | join(', ') }} and {{ input }}")
    runner = Flujo(Step("greet", greet), context_model=Names)
    result = await runner.run_async("Cy", initial_context_data={"names": ["Ada", "Bo"]})
    assert result.output == "Ada, Bo and Cy"


async def test_many_calls_run_at_the_same_time(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.txt").write_text(str(number))
    read = ReadFile(root=tmp_path)
    files = await asyncio.gather(*(read.run(f"{number}.txt") for number in range(100)))
    assert [file["text"] for file in files] == [str(number) for number in range(100)]


@pytest.mark.skipif(os.name != "posix", reason="named pipes and signals of POSIX")
async def test_a_cancelled_command_is_dead_when_the_cancelled_call_ends(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    command = Command(["sh", "-c", f"echo $$ > '{started}'; exec sleep 600"])
    call = asyncio.ensure_future(command.run())
    pid = int(await asyncio.to_thread(started.read_text))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def script(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_call_under_way_does_not_hold_up_the_end_of_the_interpreter() -> None:
    done = script(
        "import asyncio\n"
        "from flujo.agents import Command\n"
        "loop = asyncio.new_event_loop()\n"
        "call = loop.create_task(Command(['sleep', '600']).run())\n"
        "loop.run_until_complete(asyncio.sleep(0))\n"
        "call._log_destroy_pending = False\n"
        "print('end')\n"
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_agents_work_in_a_child_process_after_a_fork(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    done = script(
        "import asyncio, os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from flujo.agents import ReadFile\n"
        "read = ReadFile(root=sys.argv[1])\n"
        "def once():\n"
        "    return asyncio.run(read.run('a.txt'))['text']\n"
        "print('parent', once(), flush=True)\n"
        "if os.fork() == 0:\n"
        "    print('child', once(), flush=True)\n"
        "    sys.exit()\n"
        "_, status = os.wait()\n"
        "print('parent', once(), os.waitstatus_to_exitcode(status))\n",
        str(tmp_path),
    )
    assert done.stdout == "parent text\nchild text\nparent text 0\n", done.stderr
