# SPDX-License-Identifier: Apache-2.0
"""Tree nodes: one entry of a directory, and the JSON that a tree blob holds.

Times are integers of nanoseconds since 1970 UTC; modes are those of ``os.stat`` here and Go's ``FileMode`` in
the JSON. The access time is stored as the modification time, so that reading a file changes no tree.
"""

from __future__ import annotations

import base64
import binascii
import stat
from calendar import timegm
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from time import gmtime
from typing import Any, Final

from seawall.core.errors import DamagedError
from seawall.repository import codec
from seawall.repository.quoting import json_text, quote, unquote

FILE: Final = "file"
DIR: Final = "dir"
SYMLINK: Final = "symlink"
DEV: Final = "dev"
CHARDEV: Final = "chardev"
FIFO: Final = "fifo"

_KINDS: Final = {
    stat.S_IFREG: (FILE, 0),
    stat.S_IFDIR: (DIR, 1 << 31),
    stat.S_IFLNK: (SYMLINK, 1 << 27),
    stat.S_IFBLK: (DEV, 1 << 26),
    stat.S_IFCHR: (CHARDEV, 1 << 26 | 1 << 21),
    stat.S_IFIFO: (FIFO, 1 << 25),
}
_FORMATS: Final = {kind: (form, bits) for form, (kind, bits) in _KINDS.items()}
_SPECIAL: Final = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
_FIRST_SECOND: Final = -62135596800  # year 1
_ID_LIMIT: Final = 2**32 - 1
_LIMITS: Final = (_ID_LIMIT, _ID_LIMIT, 2**64 - 1, 2**64 - 1, 2**63 - 1, 2**64 - 1, 2**64 - 1)
_LAST_SECOND: Final = 253402300799  # year 9999


@dataclass(slots=True)
class Node:
    """One entry. ``mode`` holds permission bits with setuid, setgid and sticky; ``type`` says the rest."""

    name: bytes
    type: str
    mode: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    """Set for entries with several names only: the device number changes between boots."""
    size: int = 0
    links: int = 0
    linktarget: bytes = b""
    device: int = 0
    xattrs: Sequence[tuple[str, bytes]] = ()
    content: list[bytes] = field(default_factory=list)
    subtree: bytes | None = None

    @property
    def is_dir(self) -> bool:
        """Whether it has a subtree."""
        return self.type == DIR

    def encode(self) -> str:
        """Its JSON."""
        kind_bits = _FORMATS[self.type][1] if self.type in _FORMATS else 0
        name = json_text(quote(self.name))
        parts = [f'{{"name":{name},"type":"{self.type}"']
        mode = go_mode(self.mode) | kind_bits
        if mode:
            parts.append(f'"mode":{mode}')
        mtime = format_time(self.mtime_ns)
        parts.append(
            f'"mtime":"{mtime}","atime":"{mtime}","ctime":"{format_time(self.ctime_ns)}"'
            f',"uid":{self.uid},"gid":{self.gid}'
        )
        if self.user:
            parts.append(f'"user":{json_text(self.user)}')
        if self.group:
            parts.append(f'"group":{json_text(self.group)}')
        for word in ("inode", "device_id", "size", "links"):
            value = getattr(self, word)
            if value:
                parts.append(f'"{word}":{value}')
        if self.linktarget:
            text = self.linktarget.decode("utf-8", "surrogateescape")
            parts.append(f'"linktarget":{json_text(text)}')
            if not _is_utf8(self.linktarget):
                parts.append(f'"linktarget_raw":"{_base64(self.linktarget)}"')
        if self.xattrs:
            pairs = (f'{{"name":{json_text(k)},"value":"{_base64(v)}"}}' for k, v in self.xattrs)
            parts.append(f'"extended_attributes":[{",".join(pairs)}]')
        if self.device:
            parts.append(f'"device":{self.device}')
        if self.type == FILE:
            ids = ",".join([f'"{blob_id.hex()}"' for blob_id in self.content])
            parts.append(f'"content":[{ids}]')
        else:
            parts.append('"content":null')
        if self.subtree is not None:
            parts.append(f'"subtree":"{self.subtree.hex()}"')
        return ",".join(parts) + "}"

    def _refuse_impossible(self) -> None:
        """Raise for what no system call takes: whoever wrote it may have meant harm."""
        numbers = (self.uid, self.gid, self.inode, self.device_id, self.size, self.links, self.device)
        for number, limit in zip(numbers, _LIMITS, strict=True):
            if type(number) is not int or not 0 <= number <= limit:
                raise ValueError(f"{number!r:.40} is no id, size, number of links or device")
        if not (type(self.type) is type(self.user) is type(self.group) is str):
            raise TypeError("a type, user or group is no text")
        if b"\0" in self.linktarget:
            raise ValueError("a link target has a zero byte")

    @classmethod
    def decode(cls, value: dict[str, Any]) -> Node:
        """The node of one JSON object; ``DamagedError`` when it is not one."""
        try:
            raw = value.get("linktarget_raw")
            target = base64.b64decode(raw) if raw else value.get("linktarget", "").encode("utf-8")
            subtree = value.get("subtree")
            found = cls(
                unquote(value["name"]),
                value["type"],
                posix_mode(value.get("mode", 0)),
                parse_time(value.get("mtime", "")),
                parse_time(value.get("ctime", "")),
                value.get("uid", 0),
                value.get("gid", 0),
                value.get("user", ""),
                value.get("group", ""),
                value.get("inode", 0),
                value.get("device_id", 0),
                value.get("size", 0),
                value.get("links", 0),
                target,
                value.get("device", 0),
                parse_xattrs(value),
                [codec.parse_id(blob_id) for blob_id in value.get("content") or ()],
                codec.parse_id(subtree) if subtree else None,
            )
            found._refuse_impossible()
            return found
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise DamagedError(f"a tree holds an entry that is no node: {error!r}") from None


def is_file_name(name: bytes) -> bool:
    """Whether a file within a folder can have this name; anything else may lead out of the folder."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def kind_of(mode: int) -> str | None:
    """The node type of an ``os.stat`` mode; None for what is not stored (sockets)."""
    found = _KINDS.get(stat.S_IFMT(mode))
    return found[0] if found else None


def go_mode(mode: int) -> int:
    """Permission, setuid, setgid and sticky bits as Go counts them."""
    bits = mode & 0o777
    if mode & 0o7000:
        for ours, theirs in _SPECIAL:
            if mode & ours:
                bits |= theirs
    return bits


def posix_mode(bits: int) -> int:
    """The reverse of ``go_mode``; type bits are left out."""
    mode = bits & 0o777
    for ours, theirs in _SPECIAL:
        if bits & theirs:
            mode |= ours
    return mode


@lru_cache(maxsize=4096)
def _second_text(second: int) -> str:
    at = gmtime(second)
    return f"{at[0]:04}-{at[1]:02}-{at[2]:02}T{at[3]:02}:{at[4]:02}:{at[5]:02}"


@lru_cache(maxsize=1024)  # of an unchanged file each is asked for twice
def format_time(time_ns: int) -> str:
    """RFC 3339 with as many decimals as needed, UTC; years outside 1 to 9999 are moved to the nearest."""
    second, rest = divmod(time_ns, 1_000_000_000)
    if not _FIRST_SECOND <= second <= _LAST_SECOND:
        second, rest = (_FIRST_SECOND if second < 0 else _LAST_SECOND), 0
    if not rest:
        return _second_text(second) + "Z"
    return f"{_second_text(second)}.{rest:09}".rstrip("0") + "Z"


@lru_cache(maxsize=4096)
def _second_of(text: str) -> int:
    return timegm(datetime.fromisoformat(text).timetuple())


def is_time(text: Any, time_ns: int) -> bool:
    """Whether a stored time is this one; a text that is no time is not."""
    if text == format_time(time_ns):
        return True
    try:
        return parse_time(text) == time_ns
    except (TypeError, ValueError):
        return False


def parse_xattrs(value: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The extended attributes of one JSON object; raises what ``Node.decode`` takes for damage."""
    return [
        (_xattr_name(pair["name"]), base64.b64decode(pair["value"] or ""))
        for pair in value.get("extended_attributes") or ()
    ]


def _xattr_name(name: Any) -> str:
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError("an extended attribute has a name that none can have")
    return name


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time in any zone; 0 for no text, ``ValueError`` for a bad one."""
    if not text:
        return 0
    if len(text) < 20 or text[10] != "T":
        raise ValueError(f"not a time: {text!r}")
    end = 19
    while end < len(text) and text[end] in ".0123456789":
        end += 1
    decimals = text[20:end]
    zone = text[end:]
    second = _second_of(text[:19])
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        second -= (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)
    return second * 1_000_000_000 + int((decimals + "000000000")[:9])


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def encode_tree(nodes: Iterable[str]) -> bytes:
    """The tree blob of encoded nodes, which must be sorted by name (as bytes)."""
    return ('{"nodes":[' + ",".join(nodes) + "]}\n").encode()


def tree_entries(content: bytes, what: str) -> list[dict[str, Any]]:
    """The JSON objects of a tree blob; ``DamagedError`` naming ``what`` if it is none."""
    try:
        entries = codec.parse_json(content, what)["nodes"]
    except (KeyError, TypeError) as error:
        raise DamagedError(f"{what}: is not a tree: {error!r}") from None
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise DamagedError(f"{what}: is not a tree: its nodes are {type(entries).__name__}")
    if not all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries):
        raise DamagedError(f"{what}: is not a tree: it has an entry without a name")
    return entries


def decode_tree(content: bytes, what: str) -> list[Node]:
    """The nodes of a tree blob, in its order."""
    return [Node.decode(entry) for entry in tree_entries(content, what)]
