"""Agents that ship with Flujo: chat models, HTTP, commands, templates, extractors and files.

    from flujo import Flujo, Step
    from flujo.agents import GlobFiles, ReadFile

    pipeline = Step("list", GlobFiles(["**/*.py"])) >> Step.map_over("read", Step("read file", ReadFile()))

Their keyword settings are the keys of YAML blueprints. Work that waits is done on native threads, beside the event
loop; cancelling a call ends the work before the caller goes on.
"""

from flujo.agents._chat import Chat, Price, Tool
from flujo.agents._durable import DurableAgent
from flujo.agents._outcomes import AgentFailed, AgentFailedPermanently, AgentResult, AgentUsage
from flujo.agents._shipped import ChatStream, ShippedAgent
from flujo.agents._work import (
    Command,
    ExtractJson,
    ExtractRegex,
    GlobFiles,
    HttpRequest,
    ReadFile,
    Template,
    TextFile,
    WriteFile,
    WrittenFile,
)

__all__ = [
    "AgentFailed",
    "AgentFailedPermanently",
    "AgentResult",
    "AgentUsage",
    "Chat",
    "ChatStream",
    "Command",
    "DurableAgent",
    "ExtractJson",
    "ExtractRegex",
    "GlobFiles",
    "HttpRequest",
    "Price",
    "ReadFile",
    "ShippedAgent",
    "Template",
    "TextFile",
    "Tool",
    "WriteFile",
    "WrittenFile",
]
