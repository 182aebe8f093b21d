"""Caps: a whole rebuild of a tree of three levels, and one site after a change."""

from __future__ import annotations

import numpy as np

from benchmarks.fleets import Water, water
from benchmarks.measure import Figure, interleaved_ns
from droop.folding import fold
from droop.numerics import kernel
from droop.sites import Column, Tree, leaf, limits_of, roots, tree

GROUPS = (20, 400, 10_000)


def forest(w: Water, seed: int = 3) -> Tree:
    """Sites of 20 under feeders of 400 under transformers of 10 000; caps of which about half bind."""
    rng = np.random.default_rng(seed)
    rows = w.t.size
    nodes = []
    tight = 1.0
    for size, above in zip(GROUPS, (*GROUPS[1:], None), strict=True):
        starts = np.arange(0, rows, size)
        hi, lo = np.add.reduceat(w.hi.astype(float), starts), np.add.reduceat(w.lo.astype(float), starts)
        # Every level takes a fifth off, so that the next one up still has something to cap.
        caps = rng.uniform(0.7 * tight, 1.3 * tight, (2, starts.size))
        tight *= 0.8
        nodes += [
            (f"{size}.{k}", None if above is None else f"{above}.{start // above}", start, min(size, rows - start),
             caps[0, k] * hi[k], -caps[1, k] * lo[k])
            for k, start in enumerate(starts.tolist())
        ]  # fmt: skip
    return tree(nodes, rows)[0]


@kernel
def each(
    built: Tree, dirty: Column, site: Column, t: Column, up: Column, dn: Column, lo: Column, hi: Column, least: Column,
    most: Column, may: Column, why_up: Column, why_down: Column,
) -> None:  # fmt: skip
    """Fold single nodes, as a change in each of them would."""
    for k in dirty:
        fold(built, site, t, up, dn, lo, hi, least, most, may, why_up, why_down, k, k + 1)


def run(quick: bool, rows: int = 100_000) -> list[Figure]:
    """`sites.rebuild_ns_per_vehicle_level` and `sites.dirty_ns`, binding nodes and the bounds' copy included.

    Least of the rounds: with no yardstick to take turns with, that is what the machine's other work spoils least.
    """
    del quick
    w = water(rows)
    built = forest(w)
    site = leaf(built, rows)
    lo, hi = w.lo.copy(), w.hi.copy()
    may = np.ones(rows, np.bool_)
    why_up, why_down = np.zeros(rows, np.uint8), np.zeros(rows, np.uint8)
    columns = (site, w.t, w.s_up, w.s_dn, lo, hi, w.lo, w.hi, may, why_up, why_down)
    alone = tree([(str(k), None, k * 20, 20, *caps) for k, caps in enumerate(leaf_caps(built))], rows)[0]
    dirty = np.random.default_rng(4).permutation(alone.first.size)

    def rebuild(_: int) -> None:
        lo[:], hi[:] = w.lo, w.hi
        limits_of(built, 0, 0)
        fold(built, *columns, 0, built.first.size)

    def sites(_: int) -> None:
        lo[:], hi[:] = w.lo, w.hi
        each(alone, dirty, *columns)

    rebuild(0)
    assert not built.over_kw.any()
    sites(0)
    binding = (alone.hi_sum_kw > 0.9999 * alone.upper_kw, alone.lo_sum_kw < 0.9999 * alone.lower_kw)
    rebuilt, single = interleaved_ns(rebuild, sites, rounds=101)
    return [
        Figure(
            "sites.rebuild_ns_per_vehicle_level", min(rebuilt) / rows / len(GROUPS), "ns",
            f"goal 30; {len(roots(built))} trees, {np.mean(binding):.0%} of the sites' caps bind",
        ),
        Figure("sites.dirty_ns", min(single) / dirty.size, "ns", "goal 1000; one site of 20"),
    ]  # fmt: skip


def leaf_caps(built: Tree) -> list[tuple[float, float]]:
    """Caps of the sites, in the order of their rows."""
    sites = built.last - built.first <= GROUPS[0]
    return list(zip(built.export_kw[sites].tolist(), built.import_kw[sites].tolist(), strict=True))
