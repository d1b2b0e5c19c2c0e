"""Spans and metrics of a run: in a file, as Prometheus reads them, and as a tree in the result.

`python examples/telemetry/telemetry.py --jsonl spans.jsonl --otlp http://localhost:4318`
"""

from __future__ import annotations

import argparse
import asyncio

from flujo import Flujo, Pipeline, Step, Telemetry, current_step


async def look(place: str) -> str:
    # What is sent along to a service makes its spans part of this trace: the header `traceparent`.
    assert current_step().traceparent is not None
    await asyncio.sleep(0)
    return f"the sky over {place} is clear"


def advise(sky: str) -> str:
    return f"{sky}: take a hat"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--otlp", help="the address of a collector")
    parser.add_argument("--jsonl", required=True, help="a file for the spans")
    arguments = parser.parse_args()

    telemetry = Telemetry(otlp=arguments.otlp, jsonl=arguments.jsonl, prometheus=True)
    pipeline = Pipeline([Step("look", look), Step("advise", advise)])
    runner = Flujo(pipeline, pipeline_name="weather", telemetry=telemetry)
    result = runner.run("Lisbon")
    print(result.output)
    for node in result.trace_tree.walk():
        print(f"{node.kind} {node.name}: {node.status}")
    telemetry.flush()
    print(next(line for line in telemetry.metrics().splitlines() if line.startswith("flujo_runs_total{")))


if __name__ == "__main__":
    main()
