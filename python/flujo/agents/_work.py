"""Agents without a model: HTTP, commands, templates, extractors, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Any, ClassVar, Literal, TypedDict

from flujo.agents._outcomes import AgentResult
from flujo.agents._shipped import ShippedAgent

__all__ = [
    "Command",
    "ExtractJson",
    "ExtractRegex",
    "GlobFiles",
    "HttpRequest",
    "ReadFile",
    "Template",
    "TextFile",
    "WriteFile",
    "WrittenFile",
]

Format = Literal["text", "json", "bytes"]


class HttpRequest(ShippedAgent[Any]):
    """Sends one HTTP request.

    A reply with a status outside 2xx is a failure: 408, 409, 425, 429 and 5xx may be tried again, after the time that
    the server asks for; the rest may not.

    Args:
        url: The address, a template. Pass values through `urlencode`: `https://host/{{ input | urlencode }}`.
        method: The method, `GET` by default.
        headers: Headers; the values are templates.
        body: The body, a template. JSON is made with `{{ input | tojson }}`.
        response: What the reply is turned into, `text` by default.
        api_key_env: The environment variable with the service's key, read when the agent is made.
        api_key_header: The header that carries the key as it is. Without it, it is sent as a bearer token.
        idempotency_header: The header that carries a key by which the service recognises a repeated request.
        timeout_s: The time limit in seconds, reply included; 60 by default.
        max_response_bytes: The most bytes of a reply; 16 MiB by default.

    Raises:
        ConfigurationError: a setting can't be used.
    """

    type_name = "http"
    __slots__ = ()

    def __init__(
        self,
        url: str,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
        response: Format | None = None,
        api_key_env: str | None = None,
        api_key_header: str | None = None,
        idempotency_header: str | None = None,
        timeout_s: float | None = None,
        max_response_bytes: int | None = None,
    ) -> None:
        super().__init__(
            {
                "url": url,
                "method": method,
                "headers": dict(headers) if headers is not None else None,
                "body": body,
                "response": response,
                "api_key_env": api_key_env,
                "api_key_header": api_key_header,
                "idempotency_header": idempotency_header,
                "timeout_s": timeout_s,
                "max_response_bytes": max_response_bytes,
            }
        )

    async def run(self, data: Any = None, *, context: Any = None) -> AgentResult[Any]:
        """The reply's body, counted as one request.

        Raises:
            AgentFailed: no reply came, or one that refuses.
        """
        result: AgentResult[Any] = await self._run(data, context)
        return result


class Command(ShippedAgent[Any]):
    """Runs a program, without a shell, and gives what it writes to standard output.

    The program and everything it started are killed when the call is cancelled, runs out of time or writes too much.

    Args:
        args: The program, then its arguments. The program is plain text; each argument is a template and stays one
            argument, whatever it renders to.
        stdin: What the program reads: nothing (`empty`, the default), or the step's `input`.
        env: Variables to set; the values are templates.
        inherit_env: More variables to pass on from this process than those for finding programs, temporary files
            and the language.
        cwd: The folder to run in, a template.
        output: What the output is turned into, `text` by default.
        timeout_s: The time limit in seconds; 60 by default.
        max_output_bytes: The most bytes of output; 16 MiB by default.

    Raises:
        ConfigurationError: a setting can't be used.
    """

    type_name = "command"
    __slots__ = ()

    def __init__(
        self,
        args: Sequence[str],
        *,
        stdin: Literal["empty", "input"] | None = None,
        env: Mapping[str, str] | None = None,
        inherit_env: Sequence[str] | None = None,
        cwd: str | PathLike[str] | None = None,
        output: Format | None = None,
        timeout_s: float | None = None,
        max_output_bytes: int | None = None,
    ) -> None:
        super().__init__(
            {
                "args": _texts("args", args),
                "stdin": stdin,
                "env": dict(env) if env is not None else None,
                "inherit_env": _texts("inherit_env", inherit_env),
                "cwd": fspath(cwd) if cwd is not None else None,
                "output": output,
                "timeout_s": timeout_s,
                "max_output_bytes": max_output_bytes,
            }
        )

    async def run(self, data: Any = None, *, context: Any = None) -> Any:
        """The program's output.

        Raises:
            AgentFailed: the program can't be started, fails, takes too long or writes too much.
        """
        return await self._run(data, context)


class Template(ShippedAgent[str]):
    """Renders a template over the step's input and the run's context.

    Args:
        template: The template, such as `Hello {{ input.name or 'you' }}`.

    Raises:
        ConfigurationError: the template has a syntax error.
    """

    type_name = "template"
    __slots__ = ()

    def __init__(self, template: str) -> None:
        super().__init__({"template": template})

    async def run(self, data: Any = None, *, context: Any = None) -> str:
        """The rendered text.

        Raises:
            AgentFailedPermanently: the template prints a name that doesn't exist.
        """
        text: str = await self._run(data, context)
        return text


class _Nested(ShippedAgent[Any]):
    """An agent that shares its type with others and has its settings under a key of its own."""

    __slots__ = ()
    _key: ClassVar[str]

    def _blueprint(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {self._key: settings}


class ExtractJson(_Nested):
    """Finds the JSON value in text that may have prose and code fences around it.

    Args:
        pointer: The part of the value to give, as a JSON pointer (RFC 6901) such as `/items/0/name`; everything
            without it.

    Raises:
        ConfigurationError: the pointer isn't one.
    """

    type_name = "extract"
    _key = "json"
    __slots__ = ()

    def __init__(self, pointer: str | None = None) -> None:
        super().__init__({"pointer": pointer})

    async def run(self, data: Any) -> Any:
        """The value.

        Raises:
            AgentFailedPermanently: there is none, or it is broken or cut off.
        """
        return await self._run(data, None)


class ExtractRegex(_Nested):
    """Gives what a regular expression matches in text.

    A match is a map when the expression has named groups, the group's text when it has one group, a list when it has
    several, and the matched text when it has none. A group that took no part is None.

    Args:
        pattern: The expression, in the syntax of Rust's `regex`: linear in time, without look-around.
        all: Give every match as a list in place of the first match alone.
        required: Whether having no match is a failure, as it is by default. When it isn't, the output is None (with
            `all` an empty list).

    Raises:
        ConfigurationError: the expression can't be compiled.
    """

    type_name = "extract"
    _key = "regex"
    __slots__ = ()

    def __init__(self, pattern: str, *, all: bool | None = None, required: bool | None = None) -> None:
        super().__init__({"pattern": pattern, "all": all, "required": required})

    async def run(self, data: Any) -> Any:
        """The first match, or all of them.

        Raises:
            AgentFailedPermanently: nothing matches although something has to.
        """
        return await self._run(data, None)


class GlobFiles(_Nested):
    """Lists the files under a folder whose paths match patterns.

    Args:
        include: The patterns of which a path has to match one. `*` stays within a folder, `**` goes through folders.
        root: The folder to look in, a template; the current one by default.
        exclude: The patterns of which a path must match none. Excluded folders aren't entered.
        gitignore: Whether files that git ignores are left out, and `.git` itself; they are by default.
        hidden: Whether names with a leading dot count; they don't by default.
        max_files: The most files to list; more are a failure. 100,000 by default.

    Raises:
        ConfigurationError: a pattern can't be used.
    """

    type_name = "files"
    _key = "glob"
    __slots__ = ()

    def __init__(
        self,
        include: Sequence[str],
        *,
        root: str | PathLike[str] | None = None,
        exclude: Sequence[str] | None = None,
        gitignore: bool | None = None,
        hidden: bool | None = None,
        max_files: int | None = None,
    ) -> None:
        super().__init__(
            {
                "root": fspath(root) if root is not None else None,
                "include": _texts("include", include),
                "exclude": _texts("exclude", exclude),
                "gitignore": gitignore,
                "hidden": hidden,
                "max_files": max_files,
            }
        )

    async def run(self, data: Any = None, *, context: Any = None) -> list[str]:
        """Paths from the root with `/` between their parts, sorted by bytes. Links aren't followed and not listed.

        Raises:
            AgentFailedPermanently: a folder can't be read.
        """
        paths: list[str] = await self._run(data, context)
        return paths


class TextFile(TypedDict):
    """A file that was read."""

    path: str
    """From the root."""
    lines: int
    bytes: int
    text: str


class ReadFile(_Nested):
    """Reads one UTF-8 file inside a root folder, which no path and no link leaves.

    Args:
        root: The folder that paths count from, a template; the current one by default.
        path: The path of the file, a template; the step's input by default.
        max_bytes: The most bytes that the file may have; 16 MiB by default.

    Raises:
        ConfigurationError: a setting can't be used.
    """

    type_name = "files"
    _key = "read"
    __slots__ = ()

    def __init__(
        self,
        *,
        root: str | PathLike[str] | None = None,
        path: str | None = None,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(
            {"root": fspath(root) if root is not None else None, "path": path, "max_bytes": max_bytes}
        )

    async def run(self, data: Any = None, *, context: Any = None) -> TextFile:
        """The file's text and facts.

        Raises:
            AgentFailedPermanently: the file isn't there, isn't text, is too large or lies outside of the root.
        """
        file: TextFile = await self._run(data, context)
        return file


class WrittenFile(TypedDict):
    """A file that was written."""

    path: str
    """From the root."""
    bytes: int


class WriteFile(_Nested):
    """Writes one file inside a root folder: whole or not at all.

    The content goes to a new file beside the target, which then takes the target's place in one step. A call that is
    cancelled leaves the old file.

    Args:
        path: The path of the file, a template. Missing folders are made.
        root: The folder that paths count from, a template; the current one by default.
        content: What to write, a template. Without it the step's input is written: text and bytes as they are,
            everything else as JSON.

    Raises:
        ConfigurationError: a setting can't be used.
    """

    type_name = "files"
    _key = "write"
    __slots__ = ()

    def __init__(
        self, path: str, *, root: str | PathLike[str] | None = None, content: str | None = None
    ) -> None:
        super().__init__(
            {"root": fspath(root) if root is not None else None, "path": path, "content": content}
        )

    async def run(self, data: Any = None, *, context: Any = None) -> WrittenFile:
        """What was written.

        Raises:
            AgentFailedPermanently: the file can't be written or would lie outside of the root.
        """
        written: WrittenFile = await self._run(data, context)
        return written


def _texts(name: str, texts: Sequence[str] | None) -> list[str] | None:
    if isinstance(texts, str):
        raise TypeError(f"{name} is one text; give a list of texts: {name}=[{texts!r}]")
    return list(texts) if texts is not None else None
