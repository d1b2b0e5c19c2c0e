"""What docs/limits.md shows runs as it stands, with the settings file that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "limits.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def test_each_snippet_prints_what_its_comments_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flujo.toml").write_text("\n".join(blocks("toml")), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    snippets = blocks("python")
    assert snippets
    for snippet in snippets:
        exec(snippet, {"__name__": "limits"})
        expected = re.findall(r"print\(.*?\)  # (.*)$", snippet, re.M)
        assert expected
        assert capsys.readouterr().out.splitlines() == expected
