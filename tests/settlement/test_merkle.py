"""The tree over vehicles' rows against the RFC's own recursion, and that a path proves its row and place alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlement import merkle
from settlement.merkle import MerkleError
from settlement.verifier import leaf_hash, node_hash, root_by_path, tree_root
from tests import naive_merkle as naive


def entries(size):
    return [b"row %d" % k for k in range(size)]


@pytest.mark.parametrize("size", range(34))
def test_every_size_and_place_is_as_the_rfc_has_it(size):
    rows = entries(size)
    leaves = [leaf_hash(row) for row in rows]
    root = tree_root(leaves)
    assert root == naive.root(rows)
    for k in range(size):
        steps = merkle.path(leaves, k)
        assert steps == naive.path(k, rows)
        assert root_by_path(leaves[k], k, size, steps) == root == naive.root_by_path(rows[k], k, size, steps)


@pytest.mark.parametrize("size", range(1, 18))
def test_a_path_proves_no_other_place_size_or_row(size):
    leaves = [leaf_hash(row) for row in entries(size)]
    root = tree_root(leaves)
    for k in range(size):
        steps = merkle.path(leaves, k)
        for other in range(-1, size + 2):
            if other != k:
                assert root_by_path(leaves[k], other, size, steps) != root
                if 0 <= other < size:
                    assert root_by_path(leaves[other], k, size, steps) != root
        assert root_by_path(leaves[k], k, size, [*steps, root]) != root
        if steps:
            assert root_by_path(leaves[k], k, size, steps[:-1]) != root
            assert root_by_path(leaves[k], k, size, steps[::-1]) != root or steps == steps[::-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=70), st.data())
def test_any_rows(rows, data):
    k = data.draw(st.integers(0, len(rows) - 1))
    leaves = [leaf_hash(row) for row in rows]
    assert tree_root(leaves) == naive.root(rows)
    steps = merkle.path(leaves, k)
    assert root_by_path(leaves[k], k, len(rows), steps) == tree_root(leaves)
    if steps:
        bit = data.draw(st.integers(0, 8 * 32 * len(steps) - 1))
        joined = bytearray(b"".join(steps))
        joined[bit // 8] ^= 1 << bit % 8
        forged = [bytes(joined[at : at + 32]) for at in range(0, len(joined), 32)]
        assert root_by_path(leaves[k], k, len(rows), forged) != tree_root(leaves)


def test_a_node_is_no_leaf():
    """A pair of hashes given out as a row must not have the root of the tree over the two (RFC 6962 2.1)."""
    a, b = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(a + b) != node_hash(a, b) == tree_root([a, b])


def test_a_place_outside_is_refused():
    for index in (-1, 3):
        with pytest.raises(MerkleError, match=f"index {index}: the tree has 3 leaves"):
            merkle.path([b"", b"", b""], index)


def test_salts_differ_by_row_label_and_secret_and_are_the_same_again():
    one = merkle.salts(b"secret", "day", 100)
    assert one == merkle.salts(b"secret", "day", 100)
    assert len({*one, *merkle.salts(b"secret", "next", 100), *merkle.salts(b"other", "day", 100)}) == 300
    assert all(len(bytes.fromhex(salt)) == 16 for salt in one)
