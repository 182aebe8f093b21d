"""RFC 6962 2.1 as it is written there: by splitting at the largest power of two below the size. Slow and obvious."""

from __future__ import annotations

import hashlib


def split(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def root(entries: list[bytes]) -> bytes:
    """MTH(D[n])."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = split(len(entries))
    return hashlib.sha256(b"\x01" + root(entries[:k]) + root(entries[k:])).digest()


def path(m: int, entries: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(entries) == 1:
        return []
    k = split(len(entries))
    if m < k:
        return [*path(m, entries[:k]), root(entries[k:])]
    return [*path(m - k, entries[k:]), root(entries[:k])]


def root_by_path(entry: bytes, m: int, n: int, steps: list[bytes]) -> bytes:
    """The root, by going down the same way again."""
    if n == 1:
        assert not steps
        return hashlib.sha256(b"\x00" + entry).digest()
    k = split(n)
    if m < k:
        return hashlib.sha256(b"\x01" + root_by_path(entry, m, k, steps[:-1]) + steps[-1]).digest()
    return hashlib.sha256(b"\x01" + steps[-1] + root_by_path(entry, m - k, n - k, steps[:-1])).digest()
