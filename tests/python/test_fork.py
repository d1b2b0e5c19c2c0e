"""A runner that was used before a fork works in the child, and goes on to work in the parent."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, os, signal, sys, threading, warnings
warnings.simplefilter("ignore")  # newer interpreters warn of forks beside threads
from flujo import Flujo, Step

def blocking(x):
    return x + 1

async def waits(x):
    await asyncio.sleep(0)
    return x * 2

fan = Step.parallel("fan", {"a": Step("a", blocking), "b": Step("b", waits)})
runners = [Flujo(fan, **options) for options in ({}, {"sync_workers": 1})]

def work():
    assert [runner.run(3).output for runner in runners] == [{"a": 4, "b": 6}] * 2

work()
stop = threading.Event()
parked = threading.Thread(target=lambda: (work(), stop.wait()))  # a private loop of another thread
parked.start()
child = os.fork()
if child == 0:
    signal.alarm(20)
    import gc
    work()
    gc.collect()
    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asyncio.run(runners[0].run_async(1)).output == {"a": 2, "b": 2}
    print("child works", flush=True)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
work()
asyncio.run(runners[0].run_async(1))
stop.set()
parked.join()
print("parent works", flush=True)
"""


def test_a_runner_used_before_a_fork_works_in_the_child_and_in_the_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["child works", "parent works"], done.stderr
