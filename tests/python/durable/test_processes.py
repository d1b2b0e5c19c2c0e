"""Runs of many processes in one file, and of processes that die."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from flujo.state import SQLiteBackend

EIGHT = """
import asyncio, sys
from flujo import Flujo, Step
from flujo.state import SQLiteBackend

async def double(x):
    return x * 2

async def main(path, process):
    runner = Flujo(Step("a", double) >> Step("b", double), state_backend=SQLiteBackend(path), pipeline_name="short")
    results = await asyncio.gather(
        *(runner.run_async(number, run_id=f"{process}.{number}") for number in range(25))
    )
    assert [result.output for result in results] == [number * 4 for number in range(25)]

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_p13_eight_processes_run_in_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", EIGHT, str(path), str(number)], stderr=subprocess.PIPE, text=True
        )
        for number in range(8)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, said
    runs = await SQLiteBackend(path).list_runs("completed", "short")
    assert {run["run_id"] for run in runs} == {f"{p}.{n}" for p in range(8) for n in range(25)}


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from flujo import Flujo, Step, PipelineContext
from flujo.state import SQLiteBackend

path, calls, at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
number = 0

class Sum(PipelineContext):
    total: int = 0

def here():
    # At this one of all moments the process is gone, as by a power cut.
    global number
    number += 1
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)

def work(name):
    async def run(x, *, context):
        here()
        with calls.open("a") as file:
            file.write(f"{name} {x}\\n")
            file.flush()
            os.fsync(file.fileno())
        context.total += 1
        here()
        await asyncio.sleep(0)
        here()
        return x + 1
    return Step(name, run)

loop = Step.loop_until("loop", work("body"), lambda out, ctx: out >= 4, max_loops=9)
fan = Step.parallel("fan", {"left": work("left"), "right": work("right")})
join = Step("join", lambda x: x["left"] + x["right"])
pipeline = work("first") >> loop >> fan >> join >> work("last")
runner = Flujo(pipeline, context_model=Sum, state_backend=SQLiteBackend(path))
result = asyncio.run(runner.run_async(0, run_id="one"))
print(result.status, result.output, result.final_pipeline_context.total, len(result.step_history))
"""


def run_until_its_end(folder: Path, moments: list[int]) -> tuple[str, list[str]]:
    """Runs, killed at these moments one after the other, and then to its end."""
    script = folder / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(folder / "runs.db"), str(folder / "calls")]
    for moment in moments:
        killed = subprocess.run(
            [*command, str(moment)], capture_output=True, text=True, timeout=60, check=False
        )
        assert killed.returncode in (0, -signal.SIGKILL), killed.stderr
    done = subprocess.run([*command, "0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), (folder / "calls").read_text().splitlines()


def test_p12_a_process_killed_at_random_moments_leaves_a_run_that_ends_as_if_nothing_had_been(
    tmp_path: Path,
) -> None:
    chance = random.Random(12)
    whole = tmp_path / "whole"
    whole.mkdir()
    expected, once = run_until_its_end(whole, [])
    assert expected.startswith("completed 11 ")
    for round in range(6):
        folder = tmp_path / str(round)
        folder.mkdir()
        moments = [chance.randint(1, 12) for _ in range(chance.randint(1, 3))]
        ended, calls = run_until_its_end(folder, moments)
        assert ended == expected, moments
        assert set(calls) == set(once), moments
        # What was under way when its process died is done again, and nothing else: at most two lanes at a time.
        assert len(calls) - len(once) <= 2 * len(moments), (moments, calls)


APPLICATION = """
import os
from flujo import Flujo, Step
from flujo.state import SQLiteBackend

async def double(x):
    return x * 2

runner = Flujo(Step("double", double), state_backend=SQLiteBackend(os.environ["RUNS"]), pipeline_name="served")
assert runner.run(1, run_id="before the fork").output == 2

def app(environ, respond):
    number = int(environ["PATH_INFO"].strip("/"))
    result = runner.run(number, run_id=f"request {number}")
    respond("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {result.output}".encode()]
"""


async def test_gunicorn_forks_four_workers_of_an_application_with_a_store_that_is_open(
    tmp_path: Path,
) -> None:
    (tmp_path / "served.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port, number = listening.getsockname()[1], listening.fileno()
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--preload", "-w", "4", "--bind", f"fd://{number}"),
                *("--log-level", "warning", "served:app"),
            ],
            cwd=tmp_path,
            env={**os.environ, "RUNS": str(tmp_path / "runs.db")},
            pass_fds=[number],
            stderr=subprocess.PIPE,
            text=True,
        )
        listening.close()  # the server's alone from now on: without it clients are refused at once
        try:
            with ThreadPoolExecutor(8) as clients:
                answers = list(clients.map(partial(ask, port), range(40)))
        finally:
            server.terminate()
            said = server.communicate(timeout=60)[1]
    assert [answer.split()[1] for answer in answers] == [str(number * 2) for number in range(40)], said
    runs = await SQLiteBackend(tmp_path / "runs.db").list_runs("completed", "served")
    assert len(runs) == 41


def ask(port: int, number: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{number}", timeout=60) as answer:
        return str(answer.read().decode())


PREFORK = """
import asyncio, multiprocessing, os, sys, warnings
warnings.simplefilter("ignore")  # newer interpreters warn of forks beside threads
from flujo import Flujo, Step
from flujo.state import SQLiteBackend

async def double(x):
    return x * 2

runner = Flujo(Step("double", double), state_backend=SQLiteBackend(sys.argv[1]), pipeline_name="tasks")

def task(number):
    return os.getpid(), runner.run(number, run_id=f"task {number}").output

if __name__ == "__main__":
    assert runner.run(1, run_id="before the fork").output == 2
    with multiprocessing.get_context("fork").Pool(4) as pool:
        done = pool.map(task, range(100), chunksize=1)
        assert runner.run(2, run_id="beside the workers").output == 4
    assert [output for _, output in done] == [number * 2 for number in range(100)]
    assert os.getpid() not in {pid for pid, _ in done}
    assert asyncio.run(runner.run_async(3, run_id="after the fork")).output == 6
"""


async def test_workers_that_are_forked_after_a_run_run_tasks_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    done = subprocess.run(
        [sys.executable, "-c", PREFORK, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(await SQLiteBackend(path).list_runs("completed", "tasks")) == 103
