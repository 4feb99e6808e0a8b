# SPDX-License-Identifier: Apache-2.0
"""Routing keys, filters, signatures and CloudEvents: what is meant, and what is refused."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError
from seawall.operation_engine.events import cloud_events, matching, signatures
from seawall.operation_engine.events.properties import parse_event_properties
from seawall.runtime.amqp_url import AmqpUrl

# --- routing keys ----------------------------------------------------------------------------------

_WORDS = st.lists(st.sampled_from(["a", "b", "cc"]), max_size=5)
_PATTERN = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5)


def _means(pattern: list[str], words: list[str]) -> bool:
    """The rule, said once more in the plainest way."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_means(pattern[1:], words[n:]) for n in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _means(pattern[1:], words[1:])


@given(_PATTERN, _WORDS)
def test_a_pattern_means_what_a_topic_exchange_means_by_it(pattern: list[str], words: list[str]) -> None:
    assert matching.has_routing_key(".".join(pattern), ".".join(words)) == _means(pattern, words)


def test_a_pattern_that_could_be_matched_in_many_ways_costs_no_time() -> None:
    assert not matching.has_routing_key(".".join(["#", "a"] * 16), ".".join(["a"] * 120 + ["b"]))


@pytest.mark.parametrize(
    "pattern", ["", "a..b", ".a", "a.b*", "a b", "a.#x", "x" * 256, ".".join("a" * 33), 7, None]
)
def test_what_is_no_pattern_is_refused(pattern: Any) -> None:
    assert matching.fault_of_pattern(pattern) is not None


# --- filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "data", "is_meant"),
    [
        ({}, None, True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a.b.1": "x"}, {"a": {"b": ["y", "x"]}}, True),
        ({"a.b.2": "x"}, {"a": {"b": ["y", "x"]}}, False),
        ({"a.b": 1}, {"a": "text"}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"a": 1}, [1], False),
    ],
)
def test_a_filter_is_equality_at_every_path(conditions: dict[str, Any], data: Any, is_meant: bool) -> None:
    assert matching.has_values(conditions, data) is is_meant


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["source", "window", "routing_key", "filter", "operation_id", "states", "x"]), _JSON
    )
)
def test_whatever_is_given_as_properties_is_checked_or_refused(given_properties: dict[str, Any]) -> None:
    for source in ("webhook", "amqp", "operation", given_properties.get("source")):
        try:
            found = parse_event_properties({**given_properties, "source": source})
        except InvalidInputError as error:
            assert all(one.field.startswith("properties.") for one in error.fields)
        else:
            assert parse_event_properties(found.normalised) == found


# --- signatures ----------------------------------------------------------------------------------

SECRET = "whs_of-a-test"


def _is_signed(signature: str, **changes: Any) -> bool:
    asked = {"timestamp": "1000", "key": "k", "body": b"{}", "now_s": 1000.0, "replay_s": 300.0, **changes}
    return signatures.is_signed(SECRET, signature, **asked)


def test_a_signature_holds_for_what_was_signed_and_for_nothing_else() -> None:
    right = signatures.sign(SECRET, timestamp="1000", key="k", body=b"{}")
    assert _is_signed(right)
    assert _is_signed(right.replace("sha256=", "sha256=").lower())
    assert not _is_signed(right, body=b"{} ")
    assert not _is_signed(right, key="")
    assert not _is_signed(right, timestamp="1001")
    assert not _is_signed(right, now_s=1301.0)
    assert not _is_signed(right, now_s=699.0)
    assert not _is_signed("")
    assert not _is_signed(right.removeprefix("sha256="))


def test_a_timestamp_that_is_no_number_is_refused_even_when_it_is_signed() -> None:
    for timestamp in ("", "-1", "1e3", "٣", "9" * 13):
        right = signatures.sign(SECRET, timestamp=timestamp, key="", body=b"")
        assert not _is_signed(right, timestamp=timestamp, key="", body=b"")


def test_nothing_can_be_moved_from_the_key_into_the_body() -> None:
    one = signatures.sign(SECRET, timestamp="1", key="a", body=b"b\nc")
    other = signatures.sign(SECRET, timestamp="1", key="a\nb", body=b"c")
    assert one == other
    assert not signatures.is_key("a\nb")


def test_a_body_without_a_key_is_another_event_at_another_time() -> None:
    first = signatures.event_id(timestamp="1", key="", body=b"{}")
    assert first == signatures.event_id(timestamp="1", key="", body=b"{}")
    assert first != signatures.event_id(timestamp="2", key="", body=b"{}")
    assert signatures.event_id(timestamp="1", key="k", body=b"1") == "key:k"


def test_openssl_signs_as_the_page_says(tmp_path: Path) -> None:
    """The recipe of docs/events.md."""
    body = tmp_path / "body.json"
    body.write_bytes(b'{"job": 7}')
    script = """
        printf '%s\\n%s\\n' "$timestamp" "$key" | cat - body.json \
        | openssl dgst -sha256 -hmac "$SECRET" -r | cut -d' ' -f1"""
    environment = {"timestamp": "1000", "key": "deploy-7", "SECRET": SECRET, "PATH": "/usr/bin:/bin"}
    answer = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    wanted = hmac.digest(SECRET.encode(), b'1000\ndeploy-7\n{"job": 7}', hashlib.sha256).hex()
    assert answer.stdout.strip() == wanted
    assert (
        signatures.sign(SECRET, timestamp="1000", key="deploy-7", body=body.read_bytes())
        == f"sha256={wanted}"
    )


# --- CloudEvents -----------------------------------------------------------------------------------


def _event(**changes: Any) -> bytes:
    event = {"specversion": "1.0", "id": "1", "source": "/a", "type": "b", **changes}
    return orjson.dumps({name: value for name, value in event.items() if value != "absent"})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"\xff", "body"),
        (b"[1]", "body"),
        (b"{}", "specversion"),
        (b" " * (cloud_events.LIMIT_BYTES + 1), "body"),
        (_event(specversion="0.3"), "specversion"),
        (_event(id=""), "id"),
        (_event(id=7), "id"),
        (_event(source="absent"), "source"),
        (_event(source="/a b"), "source"),
        (_event(type="x" * 513), "type"),
        (_event(id="a\u0000"), "id"),
    ],
)
def test_what_is_no_cloud_event_names_the_field(body: bytes, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        cloud_events.parse(body)
    assert [one.field for one in caught.value.fields] == [field]


@given(st.binary(max_size=200) | _JSON.map(lambda value: repr(value).encode("utf-8", "replace")))
def test_whatever_comes_is_an_event_or_refused(body: bytes) -> None:
    try:
        cloud_events.parse(body)
    except InvalidInputError:
        pass


def test_source_and_id_never_run_into_each_other() -> None:
    one = cloud_events.parse(_event(source="/a", id="b c"))
    other = cloud_events.parse(_event(source="/a/b", id="c"))
    assert one.event_id != other.event_id


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://u:secret@h:1/name", "amqp://u@h:1/name"),
        ("amqps://u:s%2Fecret@h", "amqps://u@h:5671/"),
        ("amqp://h//", "amqp://guest@h:5672/"),
    ],
)
def test_the_address_of_a_broker_is_shown_without_its_password(text: str, shown: str) -> None:
    found = AmqpUrl.parse(text)
    assert str(found) == shown
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    "text", ["http://h", "amqp:///nowhere", "amqp://h:port", "amqp://h/v?heartbeat=1", "nonsense"]
)
def test_what_is_no_address_of_a_broker_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        AmqpUrl.parse(text)
    assert text not in str(caught.value)
