# SPDX-License-Identifier: Apache-2.0
"""Whether everything that a tree needs is still there: each blob in the index, each pack on the bank."""

from __future__ import annotations

from seawall.core.errors import DamagedError
from seawall.repository import Repository
from seawall.repository.pack import BlobType, pack_key


def missing_part(repository: Repository, tree_id: str) -> str | None:
    """What is missing of a tree, in words; None when it is whole. Reads its folders, not its files."""
    known = repository.index
    packs: set[int] = set()
    todo = [bytes.fromhex(tree_id)]
    seen: set[bytes] = set()
    while todo:
        tree = todo.pop()
        if tree in seen:
            continue
        seen.add(tree)
        number = known.pack_number(tree, BlobType.TREE)
        if number < 0:
            return f"tree {tree.hex()[:16]} is in no index"
        packs.add(number)
        try:
            entries = repository.nodes(tree.hex())
        except DamagedError as error:
            return str(error)
        for node in entries:
            if node.subtree is not None:
                todo.append(node.subtree)
            for blob_id in node.content:
                number = known.pack_number(blob_id, BlobType.DATA)
                if number < 0:
                    return f"blob {blob_id.hex()[:16]} is in no index"
                packs.add(number)
    there = {item.key for item in repository.bank.list("data/")}
    gone = [number for number in packs if pack_key(known.packs[number]) not in there]
    return f"pack {known.packs[gone[0]].hex()[:16]} is gone from the bank" if gone else None
