# SPDX-License-Identifier: Apache-2.0
"""Attributes: owner, mode, extended attributes and times of a restored entry.

Set in this order, because a change of owner clears setuid and any change moves the change time. Without the
right to change owners the owner stays, and then setuid and setgid are left out.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from seawall.repository.nodes import Node

_GONE: Final = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES, errno.ENOENT})


def same(node: Node, found: os.stat_result, handle: int) -> bool:
    """Whether an existing file has the node's owner, mode, modification time and extended attributes."""
    return (
        stat.S_IMODE(found.st_mode) == node.mode
        and found.st_mtime_ns == node.mtime_ns
        and (os.geteuid() != 0 or (found.st_uid, found.st_gid) == (node.uid, node.gid))
        and _read_xattrs(handle) == dict(node.xattrs)
    )


def _read_xattrs(handle: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(handle, name) for name in os.listxattr(handle)}
    except OSError as error:
        if error.errno in _GONE:
            return {}
        raise


def apply(node: Node, handle: int) -> list[str]:
    """Set the attributes of an open file or folder; what could not be set, in words."""
    mode = node.mode
    troubles = []
    found = os.fstat(handle)
    if (found.st_uid, found.st_gid) != (node.uid, node.gid):
        try:
            os.fchown(handle, node.uid, node.gid)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
            if os.geteuid() == 0:
                troubles.append(f"owner {node.uid}:{node.gid}: {error.strerror}")
    troubles += _apply_xattrs(node, handle)
    os.fchmod(handle, mode)
    os.utime(handle, ns=(node.mtime_ns, node.mtime_ns))
    return troubles


def _apply_xattrs(node: Node, handle: int) -> list[str]:
    troubles = []
    wanted = dict(node.xattrs)
    there = _read_xattrs(handle)
    for name in there.keys() - wanted.keys():
        try:
            os.removexattr(handle, name)
        except OSError as error:
            if error.errno not in _GONE:
                troubles.append(f"extended attribute {name}: {error.strerror}")
    for name, value in wanted.items():
        if there.get(name) == value:
            continue
        try:
            os.setxattr(handle, name, value)
        except OSError as error:
            troubles.append(f"extended attribute {name}: {error.strerror}")
    return troubles


def apply_by_name(node: Node, name: bytes, folder: int) -> list[str]:
    """As ``apply`` for an entry that cannot be opened: a symlink, pipe or device that we have just made."""
    troubles = []
    try:
        os.chown(name, node.uid, node.gid, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if os.geteuid() == 0:
            troubles.append(f"owner {node.uid}:{node.gid}: {error.strerror}")
    path = f"/proc/self/fd/{folder}/{os.fsdecode(name)}"
    for key, value in node.xattrs:
        try:
            os.setxattr(path, key, value, follow_symlinks=False)
        except OSError as error:
            troubles.append(f"extended attribute {key}: {error.strerror}")
    if node.type != "symlink":
        _chmod(name, node.mode, folder)
    os.utime(name, ns=(node.mtime_ns, node.mtime_ns), dir_fd=folder, follow_symlinks=False)
    return troubles


def _chmod(name: bytes, mode: int, folder: int) -> None:
    """Change the mode of what stands at this name now, never of what a symlink there points to."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if not stat.S_ISLNK(os.fstat(handle).st_mode):
            os.chmod(f"/proc/self/fd/{handle}", mode)
    finally:
        os.close(handle)
