# SPDX-License-Identifier: Apache-2.0
"""A folder with everything a file system can hold, and what must be the same after a restore."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import stat
from pathlib import Path

ODD_NAMES = (
    b"plain.txt",
    b"with space",
    b'quote"backslash\\',
    b"new\nline\ttab\x01\x7f",
    "ünïcödé-日本-\u202e-\U0001f600".encode(),
    b"no-utf8-\xff\xfe-\xc3",
    b"<&>\xe2\x80\xa8",
    b"-rf",
    b"...",
    b"z" * 255,
)


def make(root: Path) -> None:
    """Fill ``root``, which must not exist. As root, with owners and devices too."""
    noise = random.Random(20)
    root.mkdir()
    for number, name in enumerate(ODD_NAMES):
        odd = os.path.join(os.fsencode(root), name)
        with open(odd, "wb") as file:
            file.write(noise.randbytes(number * 1000))
        os.utime(odd, ns=(0, 1_600_000_000_123_456_789 + number))
    (root / "big").write_bytes(noise.randbytes(5_000_000))
    with (root / "sparse").open("wb") as file:
        file.write(b"head")
        file.truncate(20_000_000)
    (root / "folder" / "deeper").mkdir(parents=True)
    (root / "folder" / "empty").mkdir()
    (root / "folder" / "deeper" / "same").write_bytes(b"x" * 100_000)
    os.link(root / "folder" / "deeper" / "same", root / "folder" / "other name")
    os.link(root / "folder" / "deeper" / "same", root / "another name")
    (root / "link").symlink_to("folder/deeper")
    (root / "dangling").symlink_to("/nowhere/at/all")
    os.symlink(b"bytes-\xff", os.path.join(os.fsencode(root), b"odd link"))
    os.mkfifo(root / "pipe", 0o640)
    modes = (0o000, 0o400, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o6711)
    for mode in modes:
        path_of_mode = root / f"mode-{mode:o}"
        path_of_mode.write_text(f"{mode:o}")
        path_of_mode.chmod(mode if os.geteuid() == 0 else mode | 0o400)
    (root / "folder" / "deeper").chmod(0o1770)
    try:
        os.setxattr(root / "plain.txt", "user.note", b"binary\0\xff")
        os.setxattr(root / "folder", "user.of a folder", b"")
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
    if os.geteuid() == 0:
        os.chown(root / "big", 12345, 54321)
        os.lchown(root / "link", 77, 78)
        for kind, title, device in ((stat.S_IFCHR, "null", (1, 3)), (stat.S_IFBLK, "block", (7, 200))):
            try:
                os.mknod(root / title, kind | 0o600, os.makedev(*device))
            except PermissionError:
                pass  # a container without the right to make devices
    os.utime(root / "folder", ns=(0, 999_999_999))
    os.utime(root / "link", ns=(0, 1_500_000_000_000_000_001), follow_symlinks=False)


def _describe(path: bytes) -> tuple[object, ...]:
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    content: object = None
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = found.st_rdev
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    mode = found.st_mode if kind != stat.S_IFLNK else kind
    links = found.st_nlink if kind == stat.S_IFREG else 0
    return (mode, found.st_uid, found.st_gid, found.st_mtime_ns, links, content, xattrs)


def describe(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Relative path -> all that a restore must bring back (the root itself left out)."""
    base = os.fsencode(root)
    found: dict[bytes, tuple[object, ...]] = {}
    for folder, names, files in os.walk(base):
        for name in names + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, base)] = _describe(path)
    return found
