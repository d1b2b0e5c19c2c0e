"""The chat and HTTP agents from Python, against a server on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from flujo import Flujo, Step
from flujo.agents import (
    AgentFailed,
    AgentFailedPermanently,
    AgentUsage,
    Chat,
    HttpRequest,
    Price,
    Template,
    Tool,
)

Answer = Callable[[dict[str, Any], asyncio.StreamWriter], Awaitable[None]]
"""Answers a request with this JSON body."""


class Server:
    """Answers each request with the next of its answers; the last one from then on."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.requests: list[dict[str, Any]] = []
        self.closed: asyncio.Queue[None] = asyncio.Queue()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lengths = [
                    line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
                ]
                body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b"{}"
                self.requests.append(json.loads(body))
                answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
                await answer(self.requests[-1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.put_nowait(None)
            writer.close()


@asynccontextmanager
async def serving(*answers: Answer) -> AsyncIterator[Server]:
    server = Server(list(answers))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        listener.close()


def reply(body: str, status: str = "200 OK", *headers: str) -> Answer:
    async def answer(_: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        data = body.encode()
        head = [
            f"HTTP/1.1 {status}",
            "content-type: application/json",
            f"content-length: {len(data)}",
            *headers,
        ]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + data)
        await writer.drain()

    return answer


def message(**fields: Any) -> Answer:
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    choice = {"message": {"role": "assistant", **fields}, "finish_reason": "stop"}
    return reply(json.dumps({"model": "small-2", "choices": [choice], "usage": usage}))


def events(*pieces: str) -> Answer:
    async def answer(_: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for piece in pieces:
            event(writer, {"choices": [{"delta": {"content": piece}}]})
        event(writer, {"choices": [{"delta": {}, "finish_reason": "stop"}]})
        event(writer, {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    return answer


def event(writer: asyncio.StreamWriter, data: dict[str, Any]) -> None:
    writer.write(f"data: {json.dumps(data)}\n\n".encode())


async def endless(_: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    while True:
        event(writer, {"choices": [{"delta": {"content": "more "}}]})
        await writer.drain()


async def silence(_: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await asyncio.get_running_loop().create_future()


PRICE = Price(prompt_per_million=1.0, completion_per_million=2.0)


def chat(server: Server, **settings: Any) -> Chat:
    return Chat(base_url=f"{server.url}/v1", model="small", **{"price": PRICE, **settings})


async def test_an_answer_comes_with_tokens_cost_requests_and_model() -> None:
    async with serving(message(content="Paris")) as server:
        agent = chat(server, system="Be {{ context.tone }}.", temperature=0.0)
        result = await agent.run("Capital of France?", context={"tone": "brief"})
    assert (result.output, result.model) == ("Paris", "small-2")
    assert result.usage == AgentUsage(cost_usd=0.00012, total_tokens=110, requests=1)
    assert server.requests[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Capital of France?"},
    ]


async def test_a_cost_that_nobody_stated_is_none_and_not_zero() -> None:
    async with serving(message(content="yes")) as server:
        agent = chat(server, price=None)
        assert agent.pricing == "unknown"
        assert (await agent.run("?")).usage == AgentUsage(cost_usd=None, total_tokens=110, requests=1)


async def test_a_step_counts_what_its_chat_agent_used_and_passes_the_answer_on() -> None:
    async with serving(message(content="yes")) as server:
        result = await Flujo(Step("ask", chat(server)) >> Step("shout", Template("{{ input }}!"))).run_async(
            "?"
        )
    assert result.output == "yes!"
    step = result.step_history[0]
    assert (step.token_counts, step.cost_usd) == (110, 0.00012)
    assert (result.total_tokens, result.total_cost_usd) == (110, 0.00012)


async def test_an_answer_with_a_schema_is_an_instance_of_its_model() -> None:
    class City(BaseModel):
        name: str
        people: int

    async with serving(message(content='{"name": "Paris", "people": 2000000}')) as server:
        result = await chat(server, output_schema=City).run("?")
    assert result.output == City(name="Paris", people=2_000_000)
    assert server.requests[0]["response_format"]["json_schema"]["name"] == "City"


async def test_a_model_calls_a_tool_and_both_requests_count() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "double", "arguments": '{"n": 21}'}}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    double = Tool("double", "Doubles a number.", schema, Template("{{ input.n * 2 }}"))
    async with serving(message(content=None, tool_calls=[call]), message(content="It is 42.")) as server:
        result = await chat(server, tools=[double]).run("Double 21.")
    assert (result.output, result.usage.requests, result.usage.total_tokens) == ("It is 42.", 2, 220)
    assert server.requests[1]["messages"][-1] == {"role": "tool", "tool_call_id": "1", "content": "42"}


async def test_a_service_that_asks_to_wait_says_for_how_long() -> None:
    async with serving(
        reply('{"error": {"message": "slow down"}}', "429 Too Many Requests", "retry-after: 7")
    ) as it:
        with pytest.raises(AgentFailed, match="slow down") as failed:
            await chat(it).run("?")
    assert failed.value.retry_after == 7.0
    assert not isinstance(failed.value, AgentFailedPermanently)
    assert failed.value.usage.requests == 1


async def test_a_refused_key_is_permanent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_KEY", "sk-very-private")
    async with serving(reply('{"error": "bad key sk-very-private"}', "401 Unauthorized")) as server:
        agent = chat(server, api_key_env="SERVICE_KEY")
        with pytest.raises(AgentFailedPermanently) as failed:
            await agent.run("?")
    assert "sk-very-private" not in f"{failed.value!r} {failed.value} {agent!r}"


async def test_what_a_failed_attempt_used_counts_in_its_step() -> None:
    answers = [message(content="no number"), message(content='{"n": 1}')]
    schema = {"type": "object", "required": ["n"]}
    async with serving(*answers) as server:
        result = await Flujo(Step("ask", chat(server, output_schema=schema), max_retries=1)).run_async("?")
    step = result.step_history[0]
    assert (step.output, step.attempts, step.token_counts) == ({"n": 1}, 2, 220)
    assert step.cost_usd == pytest.approx(0.00024)


async def test_an_answer_is_streamed_in_order_and_ends_with_its_usage() -> None:
    pieces = [f"{number} " for number in range(100)]
    async with serving(events(*pieces)) as server:
        stream = chat(server).stream("?")
        assert stream.result is None
        assert [piece async for piece in stream] == pieces
    assert stream.result is not None
    assert stream.result.output == "".join(pieces)
    assert stream.result.usage == AgentUsage(cost_usd=0.00012, total_tokens=110, requests=1)


async def test_leaving_a_stream_early_cancels_the_request() -> None:
    async with serving(endless) as server:
        async with chat(server).stream("?") as stream:
            assert await anext(stream) == "more "
        await server.closed.get()
        assert [piece async for piece in stream] == []


async def test_a_stream_that_is_let_go_cancels_the_request() -> None:
    async with serving(endless) as server:
        async for _ in chat(server).stream("?"):
            break
        await server.closed.get()


async def test_a_service_that_refuses_a_stream_fails_it() -> None:
    async with serving(reply("{}", "500 Internal Server Error")) as server:
        with pytest.raises(AgentFailed, match="500"):
            await anext(chat(server).stream("?"))


async def test_the_last_step_of_a_streamed_run_hands_its_pieces_on() -> None:
    async with serving(events("Pa", "ris")) as server:
        seen = [item async for item in Flujo(Step("ask", chat(server))).stream_async("?")]
    assert seen[:-1] == ["Pa", "ris"]
    assert seen[-1].output == "Paris"


async def test_cancelling_a_call_closes_its_connection() -> None:
    async with serving(silence) as server:
        call = asyncio.ensure_future(HttpRequest(server.url).run())
        asked = asyncio.ensure_future(_asked(server))
        await asked
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def _asked(server: Server) -> None:
    while not server.requests:
        await asyncio.sleep(0)


async def test_a_reply_is_parsed_and_counts_as_a_request() -> None:
    async with serving(reply('{"a": [1, 2.5, null]}')) as server:
        result = await HttpRequest(f"{server.url}/{{{{ input | urlencode }}}}", response="json").run("a b")
    assert result.output == {"a": [1, 2.5, None]}
    assert result.usage == AgentUsage(cost_usd=0.0, total_tokens=0, requests=1)


async def test_a_server_that_is_down_fails_the_call_with_its_address() -> None:
    async with serving(silence) as server:
        pass
    with pytest.raises(AgentFailed, match=server.url.removeprefix("http://")):
        await HttpRequest(server.url).run()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_child_process_does_not_use_its_parents_connections() -> None:
    program = (
        "import asyncio, os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "from flujo.agents import HttpRequest\n"
        "get = HttpRequest(sys.argv[1], timeout_s=20)\n"
        "def once():\n"
        "    return asyncio.run(get.run()).output\n"
        "print('parent', once(), flush=True)\n"
        "if os.fork() == 0:\n"
        "    print('child', once(), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('parent', once())\n"
    )
    async with serving(reply('"here"')) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, server.url, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
    assert out.decode() == 'parent "here"\nchild "here"\nparent "here"\n', err.decode()
