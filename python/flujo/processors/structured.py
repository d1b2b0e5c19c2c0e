"""Structured output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["SerializePydantic", "SmartTypeCoercion"]


class SerializePydantic:
    """Makes plain data of a pydantic model. Other values pass unchanged."""

    name = "SerializePydantic"

    async def process(self, data: Any, context: Any) -> Any:
        """The model's fields as a dict."""
        dump = getattr(data, "model_dump", None)
        return dump() if callable(dump) and not isinstance(data, type) else data


class SmartTypeCoercion:
    """Turns texts into the numbers, booleans, nulls and containers that a JSON schema or a pydantic model
    asks for.

    `"3"` becomes 3 where an integer is expected, `"yes"` true where a boolean is. What doesn't fit is left as
    it is, for validation to find.
    """

    name = "SmartTypeCoercion"

    def __init__(self, schema: Mapping[str, Any] | type[Any]) -> None:
        if isinstance(schema, Mapping):
            self.schema: Mapping[str, Any] = schema
        else:
            from pydantic import TypeAdapter

            self.schema = TypeAdapter(schema).json_schema()

    async def process(self, data: Any, context: Any) -> Any:
        """The value with its parts coerced."""
        return self._coerce(data, self.schema)

    def _coerce(self, value: Any, schema: Mapping[str, Any]) -> Any:
        schema = self._resolve(schema)
        for alternatives in (schema.get("anyOf"), schema.get("oneOf")):
            if alternatives:
                return self._first_fit(value, alternatives)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._first_fit(value, [{**schema, "type": kind} for kind in kinds])
        if isinstance(value, str):
            value = _from_text(value, kinds)
        if kinds == "object" and isinstance(value, dict):
            fields = schema.get("properties", {})
            rest = schema.get("additionalProperties")
            other: Mapping[str, Any] = rest if isinstance(rest, Mapping) else {}
            return {key: self._coerce(item, fields.get(key, other)) for key, item in value.items()}
        if kinds == "array" and isinstance(value, list):
            items = schema.get("items", {})
            return [self._coerce(item, items) for item in value]
        if kinds == "integer" and isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    def _first_fit(self, value: Any, alternatives: list[Mapping[str, Any]]) -> Any:
        kinds = [self._resolve(alternative).get("type") for alternative in alternatives]
        for alternative, kind in zip(alternatives, kinds, strict=True):
            if _is(value, kind):
                return self._coerce(value, alternative)
        for alternative, kind in zip(alternatives, kinds, strict=True):
            coerced = self._coerce(value, alternative)
            if _is(coerced, kind):
                return coerced
        return value

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        while isinstance(reference := schema.get("$ref"), str) and reference.startswith("#/"):
            target: Any = self.schema
            for part in reference[2:].split("/"):
                target = target[part]
            schema = target
        return schema


_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _is(value: object, kind: object) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _KINDS.get(str(kind), ()))


def _from_text(text: str, kind: Any) -> Any:
    plain = text.strip()
    try:
        match kind:
            case "integer":
                return int(plain)
            case "number":
                return int(plain) if plain.lstrip("+-").isdecimal() else float(plain)
            case "boolean":
                return _BOOLEANS.get(plain.lower(), text)
            case "null":
                return None if plain.lower() in ("", "null", "none") else text
            case "object" | "array":
                value = json.loads(plain)
                return value if _is(value, kind) else text
    except ValueError:
        pass
    return text
