"""What is in runs stays where it is to be: searched for in every byte on the disk."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
from canary import CANARY, leaks

from flujo import Flujo, PipelineContext, Step
from flujo.exceptions import StoreError
from flujo.state import SQLiteBackend


class Article(PipelineContext):
    secret: str = ""


def pipeline() -> Any:
    async def write(x: str, *, context: Article) -> dict[str, str]:
        context.secret = x
        return {"text": x}

    async def breaks(x: Any) -> Any:
        raise ValueError(f"it said {CANARY}")

    ask = Step.human_in_the_loop("ask", f"Publish {CANARY}?", str)
    return Step("write", write) >> ask >> Step("breaks", breaks)


async def whole_run(folder: Path, **options: Any) -> None:
    runner: Flujo[Any, Any] = Flujo(
        pipeline(), context_model=Article, state_backend=SQLiteBackend(folder / "runs.db"), **options
    )
    paused = await runner.run_async(CANARY, run_id="one")
    assert paused.status == "paused"
    failed = await runner.resume_async(paused, CANARY)
    assert failed.status == "failed"


async def test_without_a_store_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner: Flujo[Any, Any] = Flujo(pipeline(), context_model=Article)
    await runner.run_async(CANARY, run_id="one")
    assert list(tmp_path.rglob("*")) == []


async def test_the_content_is_in_the_file_where_it_is_to_be(tmp_path: Path) -> None:
    await whole_run(tmp_path)
    assert leaks({"store": tmp_path}) != []


@pytest.mark.parametrize(
    "options",
    [{"store_content": "encrypted", "store_key": secrets.token_bytes(32)}, {"store_content": "none"}],
    ids=["encrypted", "none"],
)
async def test_content_that_isnt_to_be_read_is_in_no_byte_of_the_store(
    options: dict[str, Any], tmp_path: Path
) -> None:
    await whole_run(tmp_path, **options)
    assert leaks({"store": tmp_path}) == []
    [run] = await SQLiteBackend(tmp_path / "runs.db").list_runs()
    assert (run["run_id"], run["status"]) == ("one", "failed")


async def test_a_run_of_another_key_is_listed_and_not_read(tmp_path: Path) -> None:
    await whole_run(tmp_path, store_content="encrypted", store_key=b"a" * 32)
    runner: Flujo[Any, Any] = Flujo(
        pipeline(),
        context_model=Article,
        state_backend=SQLiteBackend(tmp_path / "runs.db"),
        store_content="encrypted",
        store_key=b"b" * 32,
    )
    with pytest.raises(StoreError, match="key"):
        await runner.run_async("x", run_id="one")
