"""docs/cases.md tells the truth: each clause names tests that exist, or the issue it waits for."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "docs" / "cases.md"

REQUIRED = [
    "P01",
    "P02",
    "P03",
    "P04",
    "P05",
    "P06",
    "P07",
    "P08",
    "P09",
    "P10",
    "P11",
    "P12",
    "P13",
    "P14",
    "P18",
    "P19",
    "P20",
    "P21",
    "P22",
    "P24",
    "P27",
    "P28",
    "P29",
    "P30",
    "P31",
    "P32",
    "P33",
    "P34",
    "P35",
    "P36",
    "P38",
    "P39",
]
REQUIRED += [f"D{number:02}" for number in range(1, 22)]
TEST = re.compile(r"`([\w./-]+\.(?:rs|py))::(\w+)`")
WAITS = re.compile(r"waits for issue \d+")


def rows() -> list[list[str]]:
    """Case, clause, where it is tested: the cells of every table row that begins with a case or a promise."""
    lines = [
        line for line in CASES.read_text(encoding="utf-8").splitlines() if re.match(r"\| [PD]\d\d ", line)
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_required_case_has_a_row() -> None:
    assert set(REQUIRED) <= {row[0] for row in rows()}


def test_every_clause_names_a_test_or_what_it_waits_for() -> None:
    empty = [
        f"{case}: {clause}"
        for case, clause, where in rows()
        if not TEST.search(where) and not WAITS.search(where)
    ]
    assert empty == []


def test_every_named_test_exists() -> None:
    missing = []
    for _, _, where in rows():
        for file, test in TEST.findall(where):
            path = ROOT / file
            if not path.is_file() or not re.search(rf"\b(fn|def) {test}\b", path.read_text(encoding="utf-8")):
                missing.append(f"{file}::{test}")
    assert missing == []
