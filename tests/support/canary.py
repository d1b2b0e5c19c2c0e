"""A secret that must not leave the process: it is searched for in every byte that does."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

CANARY = "canary-7f3d9a1c-sings"
"""What tests put where secrets and content stand."""


def spellings(secret: str = CANARY) -> set[bytes]:
    """The secret in the forms in which it may hide: as text in two encodings, quoted for a URL, in base 64, in hex."""
    plain = secret.encode()
    found = {plain, secret.encode("utf-16-le"), urllib.parse.quote(secret).encode(), plain.hex().encode()}
    # In base 64 the same text looks different at each of three offsets; what doesn't depend on its neighbours counts.
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + plain)
        found.add(encoded[4 if offset else 0 : -4])
    return found


def leaks(places: Mapping[str, bytes | str | Path], secret: str = CANARY) -> list[str]:
    """Where the secret is found, each with what is around it. A path is a file, or a folder with all below it."""
    found = []
    for name, place in places.items():
        for where, held in _contents(name, place):
            for spelling in spellings(secret):
                at = held.find(spelling)
                if at >= 0:
                    found.append(f"{where}: …{held[max(0, at - 80) : at + len(spelling) + 40]!r}…")
    return found


def _contents(name: str, place: bytes | str | Path) -> list[tuple[str, bytes]]:
    match place:
        case bytes():
            return [(name, place)]
        case str():
            return [(name, place.encode())]
        case Path():
            files = (
                [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
            )
            return [(f"{name} {file}", file.read_bytes()) for file in files]
