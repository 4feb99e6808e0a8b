# SPDX-License-Identifier: Apache-2.0
"""What is loaded down goes to a new file, whole or not at all, or to the standard output as it comes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from seawall.core.errors import ConflictError, InvalidInputError


def save(pieces: Iterable[bytes], out: str) -> int:
    """Write them to ``out``, or to the standard output when it is ``-``; how many bytes these were.

    ``ConflictError`` when something is there already, ``InvalidInputError`` when it cannot be written. When
    the pieces break off, nothing of them stays in a file.
    """
    if out == "-":
        count = 0
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            count += len(piece)
        sys.stdout.buffer.flush()
        return count
    path = Path(out).expanduser().absolute()
    try:
        with path.open("xb") as file:
            try:
                return sum(map(file.write, pieces))
            except BaseException:
                path.unlink()
                raise
    except FileExistsError as error:
        raise ConflictError(f"{path} is there already; remove it, or name another with --out") from error
    except OSError as error:
        raise InvalidInputError.of("--out", out, f"cannot be written: {error.strerror}") from error
