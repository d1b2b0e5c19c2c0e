"""Articles that wait for an editor, as a web service: any number of processes over one store of runs.

FLUJO_STATE_URI=sqlite:///articles.db uvicorn app:app --port 8000

A run belongs to one process at a time. When that one dies another one goes on with it. Whichever process gets the
editor's answer, or is asked to stop an article, sees to it that the one that has the run hears of it; what waits goes
on where it is answered.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from flujo import Flujo, PipelineContext, Step, step
from flujo.exceptions import ResumeError, RunBusyError, RunNotFoundError


class Approval(BaseModel):
    """What the editor answers."""

    approved: bool
    reason: str = ""


class Article(PipelineContext):
    """What the steps share."""

    approval: Approval | None = None


@step
async def draft(topic: str) -> str:
    return f"All about {topic}."


@step
async def publish(text: Any, *, context: Article) -> str:
    approval = context.approval
    if approval is None or not approval.approved:
        return f"not published: {approval.reason if approval else 'nobody asked'}"
    return "published"


ask = Step.human_in_the_loop("approve", "Publish {{ previous_step }}", Approval, sink_to="approval")
runner: Flujo[str, str] = Flujo(draft >> ask >> publish, context_model=Article, pipeline_name="articles")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """While the service runs it goes on with what others left half done; at its end it gives back what it has."""
    async with runner.worker(concurrency=4):
        yield


app = FastAPI(lifespan=lifespan)


class NewArticle(BaseModel):
    """What an article is to be about."""

    topic: str


@app.post("/articles", status_code=202)
async def begin(article: NewArticle) -> dict[str, str]:
    """Begins; the run is in the store when this answers."""
    handle = await runner.start(article.topic)
    return {"id": handle.id}


@app.get("/articles/{id}")
async def look(id: str) -> dict[str, Any]:
    """How it stands."""
    status = await runner.get(id).status()
    if status == "running":
        return {"id": id, "status": status}
    result = await runner.result(id)
    questions = [pause.message for pause in result.pauses]
    return {"id": id, "status": result.status, "output": result.output, "questions": questions}


@app.post("/articles/{id}/answer", status_code=202)
async def answer(id: str, approval: Approval) -> dict[str, str]:
    """Takes the editor's answer: it is in the store when this answers."""
    await runner.get(id).answer(approval.model_dump())
    return {"id": id}


@app.delete("/articles/{id}")
async def stop(id: str) -> dict[str, str]:
    """Stops an article, whichever process has it."""
    stopped = await runner.cancel(id)
    return {"id": id, "status": stopped.status}


@app.get("/articles/{id}/events")
async def events(id: str, last_event_id: int = Header(default=0)) -> StreamingResponse:
    """What happens, as server-sent events; who comes back with the number of the last one misses none."""
    handle = runner.get(id)
    await handle.status()

    async def told() -> AsyncGenerator[str]:
        number = last_event_id
        async for event in handle.events(after=number):
            number += 1
            data = json.dumps({"kind": event.kind, "step": event.step})
            yield f"id: {number}\ndata: {data}\n\n"

    return StreamingResponse(told(), media_type="text/event-stream")


@app.exception_handler(RunNotFoundError)
async def not_found(_: Request, error: RunNotFoundError) -> JSONResponse:
    """404."""
    return JSONResponse({"error": error.message}, status_code=404)


@app.exception_handler(ResumeError)
@app.exception_handler(RunBusyError)
async def conflict(_: Request, error: ResumeError | RunBusyError) -> JSONResponse:
    """409: it isn't to be answered now."""
    return JSONResponse({"error": error.message}, status_code=409)
