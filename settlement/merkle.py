"""A tree over the rows of one interval (RFC 6962 2.1), so that one row can be shown without the others.

This file knows bytes only. The hashes are those of `settlement.verifier`, which checks a path with nothing but itself;
a path is made here. Rows are salted before they become leaves (`salts`): a row of a few small numbers could be guessed
from its hash otherwise.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Final

from settlement.verifier import leaf_hash, node_hash, tree_root

__all__ = ["MerkleError", "leaf_hash", "path", "salts", "tree_root"]

SALT_BYTES: Final = 16


class MerkleError(ValueError):
    """A place that is not in the tree; the message names it."""


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes beside the way from a leaf to the root, from below (RFC 6962 2.1.1).

    leaves : hashes of all leaves, in order
    """
    if not 0 <= index < len(leaves):
        raise MerkleError(f"index {index}: the tree has {len(leaves)} leaves")
    beside: list[bytes] = []
    level = list(leaves)
    while len(level) > 1:
        # A last one without a partner goes up as it is, and adds nothing to its path.
        if index ^ 1 < len(level):
            beside.append(level[index ^ 1])
        pairs = [node_hash(level[k], level[k + 1]) for k in range(0, len(level) - 1, 2)]
        level = [*pairs, level[-1]] if len(level) % 2 else pairs
        index //= 2
    return beside


def salts(secret: bytes, label: str, count: int) -> list[str]:
    """One salt a row, hexadecimal: the same for the same secret and label, unknown to everybody else."""
    return [hmac.digest(secret, f"{label}:{k}".encode(), "sha256")[:SALT_BYTES].hex() for k in range(count)]
