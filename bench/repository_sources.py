# SPDX-License-Identifier: Apache-2.0
"""The files that the repository bench stores: this machine's own, small ones, and a dump in two versions."""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

LARGEST_BYTES = 64 * 1024**2


def real_files(folder: Path, wanted_bytes: int) -> int:
    """Copy real files (programs, libraries, texts) into ``folder``; how many bytes it became."""
    total = number = 0
    for root in ("/usr", sys.base_prefix, sys.prefix, "/opt", "/var/lib"):
        for here, names, files in os.walk(root):
            names.sort()
            for name in sorted(files):
                path = Path(here, name)
                if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                    continue
                size = path.stat().st_size
                if size > LARGEST_BYTES:
                    continue
                if total + size > wanted_bytes:
                    return total
                target = folder / f"{number // 100:05}" / f"{number % 100:02}-{name[:100]}"
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
                total, number = total + size, number + 1
    return total


def small_files(folder: Path, count: int, *, per_folder: int = 100, largest: int = 4096) -> None:
    """Files of 0 to ``largest`` bytes of noise."""
    noise = random.Random(1)
    for number in range(count):
        target = folder / f"{number // per_folder:05}" / f"{number % per_folder:03}"
        if number % per_folder == 0:
            target.parent.mkdir()
        target.write_bytes(noise.randbytes(noise.randrange(largest)))


def dumps(first: Path, second: Path, wanted_bytes: int) -> None:
    """A dump of a table, and the same with about 1 % of its rows changed, in clusters, and some added."""
    noise = random.Random(2)
    words = [f"{noise.getrandbits(40):x}" for _ in range(20_000)]
    with first.open("w") as one, second.open("w") as two:
        row = 0
        while one.tell() < wanted_bytes:
            lines = []
            for _ in range(1000):
                row += 1
                text = " ".join(noise.choices(words, k=9))
                lines.append(f"INSERT INTO orders VALUES ({row},'{text}',{noise.random():.6f});\n")
            one.writelines(lines)
            if row // 1000 % 20 == 7:  # a fifth of every twentieth cluster
                for at in range(400, 600):
                    lines[at] = lines[at].replace(");", ",'changed');")
            two.writelines(lines)
        two.writelines(f"INSERT INTO orders VALUES ({row + n},'new',0);\n" for n in range(row // 1000))
