"""The plugin that refuses what doesn't parse as SQL."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sqlglot")

from flujo.plugins.sql_validator import SQLSyntaxValidator


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "with x as (select 1) select * from x",
        "insert into t values (1); select 2",
        "create table t (a int)",
    ],
)
async def test_valid_sql_passes(text: str) -> None:
    assert (await SQLSyntaxValidator().validate({"output": text})).success


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("selec 1", "line 1, column 7"),
        ("select * from", "column 13"),
        ("select 'a", "invalid SQL"),
        ("", "no statement"),
        ("-- nothing", "no statement"),
        ("hello world", "not a statement"),
        (3, "not int"),
    ],
)
async def test_anything_else_is_refused_with_the_place(output: Any, says: str) -> None:
    outcome = await SQLSyntaxValidator().validate({"output": output})
    assert not outcome.success
    assert says in (outcome.feedback or "")


async def test_the_dialect_decides() -> None:
    text = "select `a b` from t"
    assert (await SQLSyntaxValidator("mysql").validate({"output": text})).success
    assert not (await SQLSyntaxValidator("postgres").validate({"output": text})).success


def test_an_unknown_dialect_is_refused_when_the_plugin_is_made() -> None:
    with pytest.raises(ValueError, match="klingon"):
        SQLSyntaxValidator("klingon")
