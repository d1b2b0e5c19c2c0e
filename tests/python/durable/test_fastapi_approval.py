"""The example of a web service: two processes over one store, one of which is killed while a run waits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

EXAMPLE = Path(__file__).parents[3] / "examples/fastapi_approval"


class Service:
    """A process that serves; it is asked on its own port, also while it starts."""

    def __init__(self, store: Path) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._store = store
        port = self._socket.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self.start()

    def start(self) -> None:
        number = self._socket.fileno()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(EXAMPLE)),
                *("--fd", str(number), "--log-level", "warning"),
            ],
            env={**os.environ, "FLUJO_STATE_URI": f"sqlite:///{self._store}"},
            pass_fds=[number],
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=60) in (0, -15)
        self._socket.close()

    def ask(self, id: str) -> dict[str, Any]:
        answer = self.client.get(f"/articles/{id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def events(self, id: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """The numbers and contents of the events behind one."""
        headers = {"Last-Event-ID": str(after)}
        with self.client.stream("GET", f"/articles/{id}/events", headers=headers) as answer:
            number = 0
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    number = int(line.removeprefix("id: "))
                elif line.startswith("data: "):
                    yield number, json.loads(line.removeprefix("data: "))


@contextmanager
def services(store: Path) -> Iterator[tuple[Service, Service]]:
    one, other = Service(store), Service(store)
    try:
        yield one, other
    finally:
        one.close()
        other.close()


def until_it_waits(service: Service, id: str) -> dict[str, Any]:
    while (found := service.ask(id))["status"] == "running":
        pass
    return found


def test_an_article_waits_over_the_end_of_its_process_and_is_answered_in_another(tmp_path: Path) -> None:
    with services(tmp_path / "runs.db") as (one, other):
        begun = one.client.post("/articles", json={"topic": "tea"})
        assert begun.status_code == 202
        id = begun.json()["id"]

        seen = []
        for number, event in other.events(id):
            seen.append((number, event["kind"], event["step"]))
            if event["kind"] == "paused":
                break
        assert seen == [
            (1, "run_started", ""),
            (2, "step_started", "draft"),
            (3, "step_finished", "draft"),
            (4, "step_started", "approve"),
            (5, "paused", "approve"),
        ]
        waits = until_it_waits(other, id)
        assert (waits["status"], waits["questions"]) == ("paused", ["Publish All about tea."])

        one.kill()
        wrong = other.client.post(f"/articles/{id}/answer", json={"reason": "which?"})
        assert wrong.status_code == 422
        one.start()
        answered = one.client.post(f"/articles/{id}/answer", json={"approved": True})
        assert answered.status_code == 202

        after = [(number, event["kind"], event["step"]) for number, event in other.events(id, after=5)]
        assert after == [
            (6, "step_finished", "approve"),
            (7, "step_started", "publish"),
            (8, "step_finished", "publish"),
            (9, "run_finished", ""),
        ]
        for service in (one, other):
            done = service.ask(id)
            assert (done["status"], done["output"]) == ("completed", "published")
        assert other.client.post(f"/articles/{id}/answer", json={"approved": True}).status_code == 409
        assert other.client.get("/articles/never").status_code == 404


TWO_WORKERS = """
import os
import app as service
from flujo import Flujo, Step

def opened(topic):
    # Opening waits until somebody writes.
    with open(os.environ["GATE"]) as gate:
        return gate.readline().strip()

ask = Step.human_in_the_loop("approve", "Publish {{ previous_step }}", service.Approval)
both = Step.parallel("both", {"asked": ask, "illustrated": Step("illustrate", opened)})
if os.environ["PIPELINE"] == "both":
    service.runner = Flujo(both, pipeline_name="illustrated", lease_s=0.3)
app = service.app

@app.middleware("http")
async def say_who(request, call_next):
    answer = await call_next(request)
    answer.headers["x-process"] = str(os.getpid())
    return answer
"""


@contextmanager
def two_workers(folder: Path, pipeline: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """One service of two worker processes, with a connection to each."""
    (folder / "two_workers.py").write_text(TWO_WORKERS)
    os.mkfifo(folder / "gate")
    listening = socket.create_server(("127.0.0.1", 0))
    number = listening.fileno()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "two_workers:app", "--app-dir", str(folder)),
            *("--workers", "2", "--fd", str(number), "--log-level", "warning"),
        ],
        env={
            **os.environ,
            "FLUJO_STATE_URI": f"sqlite:///{folder / 'runs.db'}",
            "GATE": str(folder / "gate"),
            "PIPELINE": pipeline,
            "PYTHONPATH": str(EXAMPLE),
        },
        pass_fds=[number],
    )
    with ExitStack() as stack:
        stack.callback(listening.close)
        stack.callback(process.wait, 60)
        stack.callback(process.terminate)
        clients: dict[str, httpx.Client] = {}
        while len(clients) < 2:
            # A connection stays with the worker that took it.
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            client = stack.enter_context(httpx.Client(base_url=url, timeout=60))
            clients.setdefault(client.get("/articles/never").headers["x-process"], client)
        one, other = clients.values()
        yield one, other


def test_of_two_workers_the_one_that_didnt_begin_a_run_answers_and_stops_it(tmp_path: Path) -> None:
    with two_workers(tmp_path, "example") as (one, other):
        answered = one.post("/articles", json={"topic": "tea"}).json()["id"]
        stopped = one.post("/articles", json={"topic": "tea"}).json()["id"]
        for id in (answered, stopped):
            while one.get(f"/articles/{id}").json()["status"] == "running":
                pass
        assert other.post(f"/articles/{answered}/answer", json={"approved": True}).status_code == 202
        assert other.delete(f"/articles/{stopped}").json()["status"] == "cancelled"
        for client in (one, other):
            while (found := client.get(f"/articles/{answered}").json())["status"] == "running":
                pass
            assert (found["status"], found["output"]) == ("completed", "published")
            assert client.get(f"/articles/{stopped}").json()["status"] == "cancelled"


def test_a_worker_answers_and_stops_a_run_that_the_other_one_has(tmp_path: Path) -> None:
    with two_workers(tmp_path, "both") as (one, other):
        answered = one.post("/articles", json={"topic": "tea"}).json()["id"]
        with (tmp_path / "gate").open("w") as gate:  # it has begun to read
            assert other.get(f"/articles/{answered}").json()["status"] == "running"
            late = other.post(f"/articles/{answered}/answer", json={"approved": True})
            assert late.status_code == 202, late.text
            again = one.post(f"/articles/{answered}/answer", json={"approved": False})
            assert again.status_code == 409, again.text
            gate.write("a kettle\n")
        while (found := other.get(f"/articles/{answered}").json())["status"] == "running":
            pass
        assert found["output"] == {"asked": {"approved": True, "reason": ""}, "illustrated": "a kettle"}
        stopped = one.post("/articles", json={"topic": "tea"}).json()["id"]
        with (tmp_path / "gate").open("w"):
            assert other.delete(f"/articles/{stopped}").json()["status"] == "cancelled"
        assert one.get(f"/articles/{stopped}").json()["status"] == "cancelled"
