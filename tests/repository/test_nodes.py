# SPDX-License-Identifier: Apache-2.0
"""Nodes come back from their JSON, and the JSON is that of the format."""

from __future__ import annotations

import stat

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seawall.core.errors import DamagedError
from seawall.repository import nodes
from seawall.repository.nodes import Node

IDS = st.binary(min_size=32, max_size=32)
NUMBERS = st.integers(0, 2**32 - 1)
XATTR_NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
TIMES = st.integers(-(10**18), 4 * 10**18)
KINDS = (nodes.FILE, nodes.DIR, nodes.SYMLINK, nodes.FIFO, nodes.CHARDEV, nodes.DEV)


@st.composite
def any_node(draw: st.DrawFn) -> Node:
    kind = draw(st.sampled_from(KINDS))
    return Node(
        draw(st.binary(min_size=1)),
        kind,
        draw(st.integers(0, 0o7777)),
        draw(TIMES),
        draw(TIMES),
        draw(NUMBERS),
        draw(NUMBERS),
        draw(st.text(max_size=5)),
        draw(st.text(max_size=5)),
        draw(NUMBERS),
        draw(NUMBERS),
        draw(NUMBERS),
        draw(NUMBERS),
        draw(st.binary()).replace(b"\0", b"") if kind == nodes.SYMLINK else b"",
        draw(NUMBERS),
        draw(st.lists(st.tuples(XATTR_NAMES, st.binary()), max_size=2)),
        draw(st.lists(IDS, max_size=3)) if kind == nodes.FILE else [],
        draw(IDS) if kind == nodes.DIR else None,
    )


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws slowly
@given(st.lists(any_node(), max_size=4))
def test_a_tree_comes_back_from_its_bytes(entries: list[Node]) -> None:
    content = nodes.encode_tree(entry.encode() for entry in entries)
    assert nodes.decode_tree(content, "tree") == entries


def test_the_bytes_of_a_tree_are_those_of_the_format() -> None:
    node = Node(
        b"a<b\n",
        nodes.FILE,
        0o4755,
        1_600_000_000_120_000_000,
        1_600_000_000_000_000_000,
        1,
        2,
        "root",
        "",
        7,
        0,
        3,
        1,
        content=[bytes(32)],
    )
    assert nodes.encode_tree([node.encode()]).decode() == (
        '{"nodes":[{"name":"a\\u003cb\\\\n","type":"file","mode":8389101,"mtime":"2020-09-13T12:26:40.12Z",'
        '"atime":"2020-09-13T12:26:40.12Z","ctime":"2020-09-13T12:26:40Z","uid":1,"gid":2,"user":"root",'
        '"inode":7,"size":3,"links":1,"content":["' + "0" * 64 + '"]}]}\n'
    )


def test_the_mode_says_the_kind_as_go_counts() -> None:
    modes = {kind: int(Node(b"x", kind, 1).encode().split('"mode":')[1].split(",")[0]) - 1 for kind in KINDS}
    assert modes == {
        nodes.FILE: 0,
        nodes.DIR: 1 << 31,
        nodes.SYMLINK: 1 << 27,
        nodes.FIFO: 1 << 25,
        nodes.CHARDEV: (1 << 26) | (1 << 21),
        nodes.DEV: 1 << 26,
    }


@given(TIMES)
def test_times_come_back_to_the_nanosecond(time_ns: int) -> None:
    assert nodes.parse_time(nodes.format_time(time_ns)) == time_ns


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T05:30:00.5+05:30", 5 * 10**8),
        ("1969-12-31T19:00:00.000000001-05:00", 1),
        ("0001-01-01T00:00:00Z", -62135596800 * 10**9),
    ],
)
def test_times_of_any_zone_are_read(text: str, time_ns: int) -> None:
    assert nodes.parse_time(text) == time_ns


def test_years_that_the_format_cannot_say_become_the_nearest() -> None:
    assert nodes.format_time(-(10**20)) == "0001-01-01T00:00:00Z"
    assert nodes.format_time(10**21) == "9999-12-31T23:59:59Z"


def test_sockets_have_no_kind() -> None:
    assert nodes.kind_of(stat.S_IFSOCK | 0o600) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"nodes":3}', b'{"nodes":[{}]}', b'{"nodes":[3]}'])
def test_bytes_that_are_no_tree_are_damage(content: bytes) -> None:
    with pytest.raises(DamagedError):
        nodes.decode_tree(content, "tree")
