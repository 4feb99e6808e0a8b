# SPDX-License-Identifier: Apache-2.0
"""Puts an object into a bucket and deletes another; killed at a failpoint on the way."""

from __future__ import annotations

import json
import sys

from seawall.protection.banks.s3 import S3Bank


def main() -> None:
    """``options`` as JSON, then what to do: put or delete."""
    bank = S3Bank(**json.loads(sys.argv[1]))
    if sys.argv[2] == "put":
        bank.put("new", b"whole" * 1000)
    else:
        bank.delete("old")


if __name__ == "__main__":
    main()
