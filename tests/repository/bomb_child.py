# SPDX-License-Identifier: Apache-2.0
"""A process with little memory that is given bombs: small objects that claim, or become, very large ones."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import zstandard

from seawall.core.errors import DamagedError
from seawall.repository import codec, index, locks, nodes, snapshot
from seawall.repository.pack import BlobType, PackedBlob, open_blob
from tests.repository.banks import DictBank
from tests.repository.conftest import fresh

MIB = 1024**2
ROOM = 1024 * MIB


def _frame(size: int, *, says: bool = True, byte: bytes = b"\0") -> bytes:
    """A zstd frame of ``size`` equal bytes that says its size or does not."""
    tool = zstandard.ZstdCompressor(level=1, write_content_size=says).compressobj(size=size if says else -1)
    block = byte * MIB
    parts = [tool.compress(block) for _ in range(size // MIB)]
    return b"".join([*parts, tool.flush()])


def _refused(what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except DamagedError as error:
        sys.stdout.write(f"{what}: {error}\n")
    else:
        raise SystemExit(f"{what}: was taken")


def main() -> None:
    """Each is refused with an error of ours."""
    bank = DictBank()
    repository = fresh(bank)
    key = repository.key
    bombs = [_frame(1500 * MIB), _frame(1500 * MIB, says=False)]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    for bomb in bombs:
        sealed = key.seal(b"\2" + bomb)
        name = codec.content_id(sealed).hex()
        for folder in ("index/", "snapshots/", "locks/"):
            bank.put(folder + name, sealed)
        _refused("index", lambda name=name: index.load_file(bank, key, name))  # type: ignore[misc]
        _refused("snapshot", lambda name=name: snapshot.load(bank, key, name))  # type: ignore[misc]
        _refused("lock", lambda name=name: locks.read(bank, key, name))  # type: ignore[misc]
        sealed = key.seal(bomb)
        for unpacked in (100, 2**27):
            blob = PackedBlob(bytes(32), BlobType.DATA, 0, len(sealed), unpacked)
            _refused("blob", lambda sealed=sealed, blob=blob: open_blob(key, sealed, blob))  # type: ignore[misc]
    for text in (b"[],", b"{},", b'{"a":0},', b"0,", b'"\xc3\xa9\xc4\x80",', b"[0],", b'{"a":[{}]},'):
        content = b'{"nodes":[' + text * (64 * MIB // len(text)) + b"0]}"
        _refused(f"tree of {text!r}", lambda content=content: nodes.tree_entries(content, "tree"))  # type: ignore[misc]
    _refused("tower", lambda: nodes.tree_entries(b"[" * (64 * MIB), "tree"))
    big = bytes(2 * MIB)
    bank.put("locks/big", big)
    _refused("big lock", lambda: locks.read(bank, key, "big"))
    sys.stdout.write("all refused\n")


if __name__ == "__main__":
    main()
