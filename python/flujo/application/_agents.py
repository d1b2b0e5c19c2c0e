"""Agents that plugins ask for, by module and name: how a run that is kept finds them again."""

from __future__ import annotations

import sys
from typing import Any


def name_of(agent: Any, plugin: Any) -> str | None:
    """`MODULE:NAME` that leads back to this very agent.

    It is its own name, or that of a global of the module of its class or of the plugin that asks for it.
    """
    own = getattr(agent, "__module__", None), getattr(agent, "__qualname__", None)
    if all(isinstance(part, str) for part in own):
        name = f"{own[0]}:{own[1]}"
        if find(name) is agent:
            return name
    for about in (plugin, agent):
        module = getattr(about, "__module__", None)
        for attribute, value in dict(vars(sys.modules[module]) if module in sys.modules else {}).items():
            if value is agent:
                return f"{module}:{attribute}"
    return None


def find(name: str) -> Any:
    """What has this name in a module that is imported; None when nothing has."""
    module, _, path = name.partition(":")
    found = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
