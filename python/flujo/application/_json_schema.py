"""Answers that have to fit a JSON schema, with pydantic's own error where they don't."""

from __future__ import annotations

from typing import Any

from flujo._native import JsonSchema


class JsonSchemaCheck:
    """Checks values against a JSON schema.

    Raises:
        ValueError: the schema can't be used.
    """

    def __init__(self, schema: dict[str, Any], where: str) -> None:
        self._title = str(schema.get("title", "answer"))
        try:
            self._schema = JsonSchema(schema)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def __call__(self, value: Any) -> Any:
        """The value.

        Raises:
            ValidationError: it doesn't fit.
        """
        wrong = self._schema.check(value)
        if not wrong:
            return value
        from pydantic import ValidationError
        from pydantic_core import InitErrorDetails, PydanticCustomError

        raise ValidationError.from_exception_data(
            self._title,
            [
                InitErrorDetails(
                    type=PydanticCustomError("json_schema", "{rule}", {"rule": rule}), loc=place, input=value
                )
                for place, rule in wrong
            ],
        )
