"""A service with FastAPI, Flujo, pydantic-ai and httpx, each with its own instrumentation: one connected tree."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from otel_sdk import user_sdk
from otlp_receiver import one_tree
from pydantic_ai import Agent, InstrumentationSettings
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from flujo import Flujo, Step


@contextmanager
def weather_service(heard: list[str]) -> Iterator[str]:
    """A service of another process: it answers, and keeps the `traceparent` of each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.headers["traceparent"])
            body = json.dumps({"sky": "clear"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is written."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def service(weather: str) -> FastAPI:
    async def fetch(place: str) -> str:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{weather}/sky", params={"place": place})
        return str(answer.json()["sky"])

    def fetch_in_a_thread(place: str) -> str:
        with httpx.Client() as client:
            return str(client.get(f"{weather}/sky", params={"place": place}).json()["sky"])

    def model(messages: list[Any], info: AgentInfo) -> Any:
        from pydantic_ai import ModelResponse, TextPart

        return ModelResponse(parts=[TextPart("take a hat")])

    advice = Agent(FunctionModel(model), name="advice")
    poem = Agent(TestModel(custom_output_text="o sky"), name="poem")
    runner = Flujo(
        Step.parallel("look", {"loop": Step("fetch", fetch), "thread": Step("fetch", fetch_in_a_thread)})
        >> Step("text", lambda skies: ", ".join(skies.values()))
        >> Step.parallel("write", {"advice": Step("advise", advice), "poem": Step("rhyme", poem)}),
        pipeline_name="weather",
    )
    app = FastAPI()

    @app.get("/advice/{place}")
    async def answer(place: str) -> Any:
        return (await runner.run_async(place)).output

    return app


async def test_a_request_is_one_tree_from_the_handler_to_the_model_and_the_next_service() -> None:
    heard: list[str] = []
    with user_sdk() as ended, weather_service(heard) as weather:
        app = service(weather)
        FastAPIInstrumentor.instrument_app(app, tracer_provider=ended.provider)
        HTTPXClientInstrumentor().instrument(tracer_provider=ended.provider)
        Agent.instrument_all(InstrumentationSettings(tracer_provider=ended.provider))
        try:
            # The request itself comes from outside: its client isn't the one that is instrumented.
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                HTTPXClientInstrumentor.uninstrument_client(client)
                answer = await client.get("/advice/here")
        finally:
            Agent.instrument_all(False)
            HTTPXClientInstrumentor().uninstrument()
        assert answer.json() == {"advice": "take a hat", "poem": "o sky"}
        tree = one_tree(ended.spans)

    assert tree.span.kind == "server"
    assert tree.span.name == "GET /advice/{place}"
    (run,) = tree.find("run weather")
    assert run in tree.below
    for branch in ("loop", "thread"):
        (lane,) = run.find(f"lane {branch}")
        (fetch,) = lane.below
        assert fetch.names() == ["fetch", ["attempt 1", ["GET"]]]
        assert fetch.below[0].below[0].span.kind == "client"
    for branch, name in (("advice", "advise"), ("poem", "rhyme")):
        (lane,) = run.find(f"lane {branch}")
        ((attempt,),) = (step.below for step in lane.find(name))
        (invoked,) = attempt.below
        assert invoked.span.name == f"invoke_agent {branch}"
        assert [call.span.attributes["gen_ai.operation.name"] for call in invoked.below] == ["chat"]
    calls = {f"00-{span.trace_id}-{span.span_id}" for span in ended.spans if span.name == "GET"}
    assert {header.rpartition("-")[0] for header in heard} == calls
    assert len(heard) == 2
