"""JSON in model output: finding it, mending it, reading it."""

from __future__ import annotations

import json
import re
from typing import Any

from flujo.processors.text import fenced_block

__all__ = [
    "DeterministicRepairProcessor",
    "EnforceJsonResponse",
    "JsonRegionExtractor",
    "TolerantJsonDecoder",
    "json_region",
    "mend_json",
]

_CLOSES = {"{": "}", "[": "]"}
_LITERALS = {"True": "true", "False": "false", "None": "null", "undefined": "null", "NaN": "null"}
_OPENING_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“"}
_STRINGS = {
    quote: re.compile(rf"{opening}[^{quote}\\]*+(?:\\.[^{quote}\\]*+)*+{quote}", re.S)
    for quote, opening in (('"', '"'), ("'", "'"), ("”", "[“„]"))
}
_MARK = re.compile(r'["{}\[\]]')
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
# Within a string: an escape, or a character that must be one.
_IN_STRING = re.compile(r'\\u[0-9a-fA-F]{4}|\\.|\\|["\x00-\x1f]', re.S)
_ESCAPED = '"\\/bfnrt'
_WORD = re.compile(r"[A-Za-z_$][\w$-]*")


def json_region(text: str) -> str | None:
    """The longest stretch of `text` that is an object or an array with all its brackets closed; None without
    one.
    """
    best_start = best_end = 0
    unclosed: list[tuple[int, str]] = []
    strings_end = True
    at = 0
    while found := _MARK.search(text, at):
        at = found.end()
        char = found[0]
        if char == '"':
            if unclosed and strings_end:
                end = _string_end(text, found.start(), char)
                strings_end = end is not None  # looking again from each later quote would be quadratic
                at = end or at
        elif char in _CLOSES:
            unclosed.append((found.start(), _CLOSES[char]))
        elif unclosed and unclosed[-1][1] == char:
            start, _ = unclosed.pop()
            if at - start > best_end - best_start:
                best_start, best_end = start, at
        else:
            unclosed.clear()
    return text[best_start:best_end] if best_end else None


def _string_end(text: str, start: int, quote: str) -> int | None:
    found = _STRINGS[quote].match(text, start)
    return found.end() if found else None


def mend_json(text: str) -> str:
    """`text` as valid JSON, with the mistakes mended that models make.

    Fences and prose around it, comments, single and curly quotes, names without quotes, Python's literals,
    trailing commas, line breaks within strings, and brackets or strings that were cut off at the end. The
    same input always gives the same output, and valid JSON comes out as it went in.

    Raises:
        ValueError: if it still isn't JSON then.
    """
    if _is_json(text):
        return text
    inner = fenced_block(text)
    candidate = (inner if inner is not None else text).strip()
    if _is_json(candidate):
        return candidate
    starts = [at for at in (candidate.find("{"), candidate.find("[")) if at >= 0]
    if starts:
        candidate = candidate[min(starts) :]
    region = json_region(candidate)
    if region is not None and candidate.startswith(region):
        candidate = region
        if _is_json(region):
            return region
    mended = _rewrite(candidate)
    try:
        json.loads(mended)
    except ValueError as error:
        raise ValueError(f"the output isn't JSON and can't be mended: {error}") from error
    return mended


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _rewrite(text: str) -> str:
    """One pass over the tokens; stops where the outermost bracket closes."""
    out: list[str] = []
    open_brackets: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char in _OPENING_QUOTES:
            string, at = _rewrite_string(text, at)
            out.append(string)
        elif text.startswith(("//", "#"), at):
            line_end = text.find("\n", at)
            at = len(text) if line_end < 0 else line_end
        elif text.startswith("/*", at):
            comment_end = text.find("*/", at)
            at = len(text) if comment_end < 0 else comment_end + 2
        elif char in _CLOSES:
            open_brackets.append(_CLOSES[char])
            out.append(char)
            at += 1
        elif char in "}]":
            at += 1
            if char in open_brackets:
                # An inner bracket that was forgotten is closed first.
                while open_brackets[-1] != char:
                    _close(out, open_brackets.pop())
                _close(out, open_brackets.pop())
                if not open_brackets:
                    break
        elif number := _NUMBER.match(text, at):
            out.append(number[0])
            at = number.end()
        elif word := _WORD.match(text, at):
            at = word.end()
            plain = _LITERALS.get(word[0], word[0])
            out.append(plain if plain in ("true", "false", "null") else json.dumps(plain))
        else:
            out.append(char)
            at += 1
    while open_brackets:
        _close(out, open_brackets.pop())
    return "".join(out).strip()


def _close(out: list[str], bracket: str) -> None:
    while out and (out[-1].isspace() or out[-1] == ","):
        out.pop()
    if out and out[-1] == ":":
        out.append("null")
    out.append(bracket)


def _rewrite_string(text: str, start: int) -> tuple[str, int]:
    quote = _OPENING_QUOTES[text[start]]
    end = _string_end(text, start, quote)
    body = text[start + 1 :] if end is None else text[start + 1 : end - 1]
    body = _IN_STRING.sub(_escape, body)
    return f'"{body}"', len(text) if end is None else end


def _escape(found: re.Match[str]) -> str:
    text = found[0]
    if len(text) == 1:
        # The lone backslash is where the text was cut off.
        return "" if text == "\\" else json.dumps(text)[1:-1]
    if text[1] in _ESCAPED or len(text) > 2:
        return text
    return text[1] if text[1] == "'" else "\\\\" + json.dumps(text[1])[1:-1]


class JsonRegionExtractor:
    """Takes the JSON out of a text with prose around it. A text without any passes unchanged, as do other
    values.
    """

    name = "JsonRegionExtractor"

    async def process(self, data: Any, context: Any) -> Any:
        """The JSON as a text."""
        if not isinstance(data, str):
            return data
        inner = fenced_block(data, "json")
        region = json_region(data if inner is None else inner)
        return data if region is None else region


class EnforceJsonResponse:
    """Reads a text as JSON and fails the attempt where it isn't. Values other than texts pass unchanged."""

    name = "EnforceJsonResponse"

    async def process(self, data: Any, context: Any) -> Any:
        """The value that the JSON stands for.

        Raises:
            ValueError: if it isn't JSON.
        """
        if not isinstance(data, str):
            return data
        inner = fenced_block(data, "json")
        try:
            return json.loads(data if inner is None else inner)
        except ValueError as error:
            raise ValueError(f"the output must be JSON: {error}") from error


class TolerantJsonDecoder:
    """Reads a text as JSON, mending it where need be. A text that is no JSON at all passes unchanged."""

    name = "TolerantJsonDecoder"

    async def process(self, data: Any, context: Any) -> Any:
        """The value that the JSON stands for."""
        if not isinstance(data, str):
            return data
        try:
            return json.loads(mend_json(data))
        except (ValueError, RecursionError):
            return data


class DeterministicRepairProcessor:
    """Makes valid JSON of a text, see `mend_json`, and fails the attempt where that can't be done."""

    name = "DeterministicRepair"

    async def process(self, data: Any, context: Any) -> Any:
        """The JSON as a text.

        Raises:
            ValueError: if it isn't JSON and can't be mended.
        """
        return mend_json(data) if isinstance(data, str) else data
