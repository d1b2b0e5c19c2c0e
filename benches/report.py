"""Measures Flujo on this machine: `python benches/report.py --out bench-report.json`.

Each figure stands beside a baseline of the same process: samples of both alternate, in CPU time. The report has a row
for each promise about speed. docs/benchmarks.md says how to read it and how to add a row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from measures import GROUPS
from measures.row import Row
from measures.sampling import FULL, QUICK, Effort

# What depends on the interpreter's version and is therefore measured on a newer one too.
ON_NEWER = ("linear", "fan_out", "many_runs")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="where to write the report, as JSON")
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes; the figures mean nothing"
    )
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument(
        "--also", type=Path, metavar="PYTHON", help="a newer interpreter with Flujo, for what depends on it"
    )
    parser.add_argument("--strict", action="store_true", help="end with 1 when a row doesn't hold")
    arguments = parser.parse_args()

    effort = QUICK if arguments.quick else FULL
    rows: list[dict[str, Any]] = []
    for group in arguments.only or GROUPS:
        for row in GROUPS[group](effort):
            _print(row)
            rows.append(row.to_dict() | {"group": group})
    if arguments.also is not None:
        rows += _on(
            arguments.also, [group for group in arguments.only or ON_NEWER if group in ON_NEWER], effort
        )
    report = {"rows": rows, "interpreter": _interpreter(), "machine": _machine(), "quick": arguments.quick}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    missed = [row["name"] for row in rows if row["holds"] is False]
    if missed:
        print(f"\n{len(missed)} of {len(rows)} rows don't hold: {'; '.join(missed)}")
    else:
        print(f"\nevery one of {len(rows)} rows holds")
    return 1 if missed and arguments.strict else 0


def _on(python: Path, groups: list[str], effort: Effort) -> list[dict[str, Any]]:
    """The rows of these groups, measured by another interpreter."""
    if not groups:
        return []
    print(f"\non {python}:", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "report.json")
        command = [str(python), __file__, "--only", *groups, "--out", str(out)]
        if effort.quick:
            command.append("--quick")
        if subprocess.run(command, check=False).returncode != 0:
            raise SystemExit(f"{python} could not measure: see above")
        report = json.loads(out.read_text())
    version = report["interpreter"]
    return [row | {"name": f"{row['name']} ({version})"} for row in report["rows"]]


def _interpreter() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}"


def _machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform(), "load": load}


def _print(row: Row) -> None:
    row = replace(row, note=f" ({row.note})" if row.note else "")
    if row.value is None or row.ratio is None or row.baseline is None:
        print(f"{row.name:58} {'not measured' if row.holds is None else 'FAILED':>12}{row.note}", flush=True)
        return
    holds = {True: "holds", False: "DOES NOT HOLD", None: ""}[row.holds]
    spread = ""
    if row.estimate is not None:
        low, high = row.estimate.interval
        spread = f"median {row.estimate.median:.3g} [{low:.3g}, {high:.3g}]"
    print(
        f"{row.name:58} {row.value:9.3f} {row.unit:10} baseline {row.baseline:8.3f} {row.ratio:7.2f} x  "
        f"{spread:34} {row.reach} {holds}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
