"""`python -m flujo.bench claims`: every claim, those of Rust and those of Python."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments ask.

    Returns:
        0 when every measured claim holds, 1 when one doesn't or can't be measured, 2 for arguments that can't be used.
    """
    parser = argparse.ArgumentParser(
        prog="flujo bench", description="Measure on this machine what Flujo promises."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    claims = commands.add_parser("claims", help="what each optimisation earns against its plain twin")
    claims.add_argument(
        "--only", metavar="TEXT", default="", help="measure only the rows whose name contains this"
    )
    claims.add_argument("--quick", action="store_true", help="take 6 samples of each twin instead of 30")
    claims.add_argument("--json", action="store_true", help="print the rows as JSON")
    claims.add_argument("--svg", metavar="FILE", type=Path, help="draw the table into this file, as SVG")
    memory = commands.add_parser(
        "memory", help="the bytes of memory that a run takes among 1,000, in this process, several times"
    )
    memory.add_argument("twin", choices=("plain", "optimized"))
    memory.add_argument("samples", type=int)
    options = parser.parse_args(arguments)
    if options.command == "memory":
        from flujo.bench._memory import memory_of_runs

        print(*memory_of_runs(options.samples, optimized=options.twin == "optimized"), sep="\n")
        return 0
    return _claims(only=options.only, quick=options.quick, as_json=options.json, svg=options.svg)


def _claims(*, only: str, quick: bool, as_json: bool, svg: Path | None) -> int:
    from flujo._native import Claims
    from flujo.bench._rows import ROWS, Effort

    rust = [name for name in Claims.rows() if only in name]
    python = [row for row in ROWS if only in row.name]
    if not rust and not python:
        names = ", ".join(dict.fromkeys([*Claims.rows(), *(row.name for row in ROWS)]))
        print(f"no claim's name contains {only!r}; there are: {names}", file=sys.stderr)
        return 2
    pairs, claims, whole = (6 if quick else 30), Claims(), len(rust) + len(python)
    try:
        for place, name in enumerate(rust, start=1):
            print(f"{place} of {whole}: {name}, rust", file=sys.stderr)
            claims.measure(name, pairs, _apart)
        for place, row in enumerate(python, start=len(rust) + 1):
            print(f"{place} of {whole}: {row.name}, python", file=sys.stderr)
            row.measure(claims, Effort(pairs))
    except RuntimeError as error:
        print(f"a claim could not be measured: {error}", file=sys.stderr)
        return 1
    if svg is not None:
        svg.write_text(claims.picture(), encoding="utf-8")
    print(claims.json() if as_json else claims.table())
    return 0 if claims.hold() else 1


def _apart(twin: str, samples: int) -> list[float]:
    """What a process of its own measures, since memory that one measurement used isn't given back for the next."""
    from flujo.bench._memory import figures_of

    return figures_of([sys.executable, "-m", "flujo", "bench", "memory", twin], samples)


if __name__ == "__main__":
    sys.exit(main())
