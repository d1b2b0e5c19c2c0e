"""How a runner keeps its runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

    from flujo._native import KeptRuns, Store
    from flujo.state.backends.base import StateBackend

Durability = Literal["strict", "async", "exit"]
Content = Literal["full", "encrypted", "none"]

URI = "FLUJO_STATE_URI"
KEY = "FLUJO_STORE_KEY"


def kept_runs(
    backend: StateBackend | None,
    durability: Durability,
    lease_s: float,
    content: Content,
    key: bytes | None,
    context_model: type[BaseModel] | None,
    version: str | None,
) -> KeptRuns | None:
    """What the engine keeps runs with; None where nothing is stored.

    Raises:
        TypeError: the backend isn't one.
        ValueError: there is no such durability or content, the lease is too short, or the key is missing.
        SettingsError: `FLUJO_STATE_URI` names no place for runs.
        StoreError: the store that it names can't be opened.
    """
    if backend is None and os.environ.get(URI):
        from flujo.state.backends.uri import backend_of_environment

        backend = backend_of_environment()
    if backend is None:
        return None
    from flujo._native import KeptRuns
    from flujo.application._checked import checked_seconds
    from flujo.state.backends.base import store_of

    seconds = checked_seconds("lease_s", lease_s)
    classes = [] if context_model is None else [context_model]
    store = _with_content(store_of(backend), content, key)
    return KeptRuns(store, durability=durability, lease_s=seconds or 0.0, classes=classes, version=version)


def _with_content(store: Store, content: Content, key: bytes | None) -> Store:
    if content == "full":
        return store
    if content == "none":
        return store.sealed(None)
    if content != "encrypted":
        raise ValueError(f'store_content is "full", "encrypted" or "none", not {content!r}')
    if key is None and (digits := os.environ.get(KEY)):
        try:
            key = bytes.fromhex(digits)
        except ValueError:
            raise ValueError(f"{KEY} must be 64 hexadecimal digits") from None
    if key is None:
        raise ValueError(
            f'store_content="encrypted" needs a key: store_key=…, 32 bytes, or {KEY} with 64 hexadecimal digits; '
            "secrets.token_bytes(32) makes one"
        )
    return store.sealed(key)
