"""What steps and pipelines have in common: an input, an output, and `>>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic

from typing_extensions import TypeVar

from flujo.domain.dsl._tracking import Definition

if TYPE_CHECKING:
    from flujo.domain.dsl.pipeline import Pipeline

__all__ = ["Composable", "InputT", "OutputT"]

InputT = TypeVar("InputT", contravariant=True, default=Any)
OutputT = TypeVar("OutputT", covariant=True, default=Any)
Next = TypeVar("Next")

_TYPE_LEVELS = 8
"""How far inside of nested constructs a declared type is looked for; beyond it counts as not declared."""


class Composable(Definition, Generic[InputT, OutputT]):
    """A step or a pipeline."""

    kind: ClassVar[str]
    """Which construct this is, for the compiler."""

    @property
    def input_type(self) -> Any:
        """The input's declared type; `Any` where none is declared, or processors or a template make it."""
        return self._input_type(_TYPE_LEVELS)

    @property
    def output_type(self) -> Any:
        """The output's declared type; `Any` where none is declared, or processors or plugins change it."""
        return self._output_type(_TYPE_LEVELS)

    def _input_type(self, levels: int) -> Any:
        return Any

    def _output_type(self, levels: int) -> Any:
        return Any

    def __rshift__(self, other: Composable[OutputT, Next]) -> Pipeline[InputT, Next]:
        """This, then `other`, as one flat pipeline.

        Raises:
            ValueError: two steps share a name, or one's declared output can't be the next one's input.
        """
        from flujo.domain.dsl.pipeline import join

        joined: Pipeline[InputT, Next] = join(self, other)
        return joined
