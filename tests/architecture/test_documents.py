# SPDX-License-Identifier: Apache-2.0
"""The documents name files, classes and pages that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCE = ROOT / "src" / "seawall"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [one for one in links if "://" not in one and not (page.parent / one).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_source_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:src/seawall/|tests/|docs/|bench/|demo/|tools/)[\w./-]*)`", text)
    named += [
        f"src/seawall/{one}"
        for one in re.findall(
            r"`((?:core|sdk|runtime|db|repository|protection|operation_engine|api|client|wiring|cli)/[\w./-]*)`",
            text,
        )
    ]
    assert [one for one in named if not (ROOT / one).exists()] == []


def _missions() -> list[tuple[str, str, str]]:
    """(mission, file, name) of the table of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = []
    for line in text.splitlines():
        if row := re.match(r"\| (M\d+) \|", line):
            found += [(row[1], file, name) for file, name in re.findall(r"`([\w/]+\.py)` `([\w.]+)`", line)]
    return found


def test_the_architecture_page_has_all_eleven_missions() -> None:
    assert {mission for mission, _, _ in _missions()} == {f"M{number}" for number in range(1, 12)}


@pytest.mark.parametrize(("mission", "file", "name"), _missions())
def test_a_mission_is_where_the_architecture_page_says(mission: str, file: str, name: str) -> None:
    tree: ast.AST = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    for part in name.split("."):
        inner = [
            node
            for node in ast.iter_child_nodes(tree)
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part
        ]
        assert inner, f"{mission}: {file} has no {name}"
        tree = inner[0]
