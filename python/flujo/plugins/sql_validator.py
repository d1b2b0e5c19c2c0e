"""Is an output valid SQL? Needs the package sqlglot."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from flujo.domain.plugins import PluginOutcome

__all__ = ["SQLSyntaxValidator"]


def _sqlglot() -> Any:
    # Optional, so that type checkers mustn't need it either.
    try:
        return import_module("sqlglot")
    except ImportError as error:
        raise ImportError("SQLSyntaxValidator needs sqlglot: pip install sqlglot") from error


class SQLSyntaxValidator:
    """Refuses an output that doesn't parse as SQL. It says nothing of tables and columns, and runs nothing.

    `dialect` is a name that sqlglot knows (`postgres`, `sqlite`, …); None is its own broad dialect.

    Raises:
        ImportError: on construction, if sqlglot isn't installed.
        ValueError: on construction, if sqlglot doesn't know the dialect.
    """

    def __init__(self, dialect: str | None = None) -> None:
        _sqlglot().Dialect.get_or_raise(dialect)
        self.dialect = dialect

    async def validate(self, data: dict[str, Any]) -> PluginOutcome:
        """Look at the output: the text under `output`, or under `solution`."""
        text = data.get("output", data.get("solution"))
        if not isinstance(text, str):
            return PluginOutcome(False, f"the output must be SQL as a text, not {type(text).__name__}")
        fault = self._fault(text)
        return PluginOutcome(True) if fault is None else PluginOutcome(False, f"invalid SQL: {fault}")

    def _fault(self, text: str) -> str | None:
        sqlglot = _sqlglot()
        exp = sqlglot.exp
        try:
            statements = [statement for statement in sqlglot.parse(text, dialect=self.dialect) if statement]
        except sqlglot.ParseError as error:
            found = error.errors[0] if error.errors else {}
            if not found.get("description"):
                return str(error)
            return f"{found['description']} at line {found.get('line')}, column {found.get('col')}"
        except sqlglot.errors.SqlglotError as error:
            return str(error)
        except RecursionError:
            return "it's nested too deeply"
        if not statements:
            return "there is no statement"
        # `hello world` parses, as an expression with an alias.
        if any(isinstance(statement, exp.Condition | exp.Alias) for statement in statements):
            return "it's an expression, not a statement"
        return None
