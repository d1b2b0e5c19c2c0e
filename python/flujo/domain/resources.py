"""What steps share and don't own: clients, pools, settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["AppResources"]


class AppResources(BaseModel):
    """A base for the object that a runner hands to every step that takes `resources`.

    Fields may be of any class. A subclass that is an (async) context manager is entered and left for each
    attempt.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(arbitrary_types_allowed=True)
