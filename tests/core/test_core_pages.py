# SPDX-License-Identifier: Apache-2.0
"""The pages on schedules, retention, states and errors say what the code does."""

from __future__ import annotations

import json
import re
import runpy
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seawall.core.errors import InvalidInputError
from seawall.core.retention import RULES
from seawall.core.schedule import parse_time_properties

ROOT = Path(__file__).parents[2]
SCHEDULES = (ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")
RETENTION = (ROOT / "docs" / "retention.md").read_text(encoding="utf-8")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_generated_pages_are_up_to_date() -> None:
    """`make docs` writes them."""
    pages = runpy.run_path(str(ROOT / "tools" / "generated_docs.py"))["pages"]()
    assert [path.name for path, text in pages.items() if path.read_text(encoding="utf-8") != text] == []


def test_the_table_of_properties_is_the_whole_list() -> None:
    table = SCHEDULES.partition("## Properties")[2].partition("## Patterns")[0]
    with pytest.raises(InvalidInputError) as caught:
        parse_time_properties({"x": 1}, now=NOW, min_interval_s=60)
    known = str(next(fault.rule for fault in caught.value.fields if fault.field == "properties.x"))
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(
        known.rpartition("known are ")[2].split(", ")
    )


def test_the_defaults_of_the_table_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| `?([\w]+)`? \|$", SCHEDULES, re.MULTILINE)
    said = {name: value for name, value in rows if value not in ("needed", "none")}
    assert len(said) == 7
    plain = {"format": "crontab", "pattern": "0 2 * * *", "start_time": "2026-01-01 00:00:00"}
    written = parse_time_properties({**plain, **said}, now=NOW, min_interval_s=60)
    assert written == parse_time_properties(plain, now=NOW, min_interval_s=60)


def test_the_examples_of_the_page_are_accepted() -> None:
    trigger, exclusions = (json.loads(one) for one in re.findall(r"```json\n(.*?)```", SCHEDULES, re.DOTALL))
    properties = {**trigger["trigger_info"]["properties"], "exclusions": exclusions}
    parse_time_properties(properties, now=NOW, min_interval_s=60)


def test_the_page_on_retention_names_every_rule() -> None:
    assert [rule for rule in RULES if rule not in RETENTION] == []
