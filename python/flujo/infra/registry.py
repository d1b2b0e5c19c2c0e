"""Pipelines by name and version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.domain.dsl.step import Step

__all__ = ["PipelineRegistry"]


class PipelineRegistry:
    """Pipelines by name and version: `Flujo(registry=…, pipeline_name=…, pipeline_version="latest")`."""

    def __init__(self) -> None:
        self._pipelines: dict[str, dict[str, Pipeline[Any, Any]]] = {}

    def register(self, pipeline: Pipeline[Any, Any] | Step[Any, Any], name: str, version: str) -> None:
        """Name a version of a pipeline. One that was registered under the same name and version is replaced.

        Raises:
            TypeError: it isn't a pipeline, or name and version aren't texts.
            ValueError: the version is `"latest"`, which stands for the highest one.
        """
        from flujo.application._checked import as_pipeline

        for what, text in (("name", name), ("version", version)):
            if not (isinstance(text, str) and text):
                raise TypeError(f"a pipeline's {what} must be a text, not {text!r}")
        if version == "latest":
            raise ValueError('"latest" stands for the highest version: name this one, as in "1.0.0"')
        self._pipelines.setdefault(name, {})[version] = as_pipeline(pipeline)

    def get(self, name: str, version: str = "latest") -> Pipeline[Any, Any] | None:
        """The pipeline of this name and version; None where there is none."""
        if version == "latest":
            return self.get_latest(name)
        return self._pipelines.get(name, {}).get(version)

    def get_latest(self, name: str) -> Pipeline[Any, Any] | None:
        """The highest version of a pipeline: 1.10 is higher than 1.9, 2.0 higher than 2.0rc1."""
        latest = self.get_latest_version(name)
        return None if latest is None else self._pipelines[name][latest]

    def get_latest_version(self, name: str) -> str | None:
        """The highest version's name; None where there is none."""
        versions = self.versions(name)
        return versions[0] if versions else None

    def versions(self, name: str) -> list[str]:
        """The versions of a pipeline, the highest first."""
        return sorted(self._pipelines.get(name, {}), key=_height, reverse=True)

    def __repr__(self) -> str:
        named = ", ".join(f"{name} ({', '.join(self.versions(name))})" for name in sorted(self._pipelines))
        return f"PipelineRegistry({named})"


def _height(version: str) -> tuple[tuple[int, ...], bool, list[tuple[int, str]], str]:
    """By its leading numbers; what a word follows, as in `2.0rc1`, is lower than what ends with them."""
    found = re.match(r"v?(\d+(?:\.\d+)*)?", version)
    numbers = [int(number) for number in found[1].split(".")] if found and found[1] else []
    while numbers and numbers[-1] == 0:
        numbers.pop()  # 1.0 and 1 are as high
    rest = version[found.end() :] if found else version
    parts = re.findall(r"\d+|[^\W\d_]+", rest)
    return (
        tuple(numbers),
        not parts,
        [(int(part), "") if part.isdecimal() else (-1, part) for part in parts],
        version,
    )
