"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.redis_server import redis_server

EXAMPLES = Path(__file__).parents[3] / "examples"


def output_of(example: str, *arguments: str) -> list[str]:
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_article_waits_for_two_people_and_is_published() -> None:
    lines = output_of("human_approval/approval.py", "--title", "On tea")
    assert lines[0] == "the run is paused; it waits for:"
    assert [line.split(": ", 1)[1] for line in lines[1:3]] == [
        "Publish All about tea.",
        "A title for All about tea.",
    ]
    assert lines[3] == "the run is paused; it waits for:"
    assert len(lines) == 6
    assert lines[-1] == "published as 'On tea'"


def test_an_article_that_nobody_approves_is_not_published() -> None:
    assert output_of("human_approval/approval.py", "--approve", "no")[-1] == "not published: no reason given"


def test_the_stream_tells_of_chunks_attempts_and_the_end() -> None:
    lines = output_of("streaming/streaming.py")
    long = [line for line in lines if line.startswith("writers[long]")]
    assert long[:2] == [
        "writers[long] attempt 1: Everybody ",
        "writers[long] attempt 1 failed; what it had said is void",
    ]
    assert long[2:] == [
        f"writers[long] attempt 2: {word} " for word in ("Everybody", "talks", "about", "tea.")
    ]
    assert lines[-1] == "{'short': 'News of tea.', 'long': 'Everybody talks about tea.'}"


def test_telemetry_is_a_file_of_spans_a_tree_and_metrics(tmp_path: Path) -> None:
    spans = tmp_path / "spans.jsonl"
    assert output_of("telemetry/telemetry.py", "--jsonl", str(spans)) == [
        "the sky over Lisbon is clear: take a hat",
        "run run weather: ok",
        "step look: ok",
        "attempt attempt 1: ok",
        "step advise: ok",
        "attempt attempt 1: ok",
        'flujo_runs_total{pipeline="weather"} 1',
    ]
    assert len(spans.read_text().splitlines()) == 5


def test_a_result_is_made_once_for_each_tenant_and_found_by_the_next_process(tmp_path: Path) -> None:
    results = str(tmp_path / "results.db")
    lines = output_of("caching/caching.py", results)
    assert lines[0] == "Tea, as the north shop sells it: made, $0.002"
    assert [line.rpartition(": ")[2].split(",")[0] for line in lines[:6]] == [
        *("made", "made", "found", "found", "made", "made")
    ]
    assert lines[-1] == "hit rate 33 %"
    again = output_of("caching/caching.py", results)
    assert all("found, saved $0.002" in line for line in again[:6])
    assert again[-1] == "hit rate 100 %"


def test_calls_of_a_shared_model_wait_for_their_turn_in_this_process_and_by_a_server() -> None:
    said = [
        "['about tea', 'about coffee', 'about water'] ['about wine', 'about milk', 'about juice']",
        "2 calls at the same time, at most",
    ]
    assert output_of("rate_limits/rate_limits.py") == said
    with redis_server() as server:
        assert output_of("rate_limits/rate_limits.py", server.url) == said
