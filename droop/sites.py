"""Sites, feeders and transformers: a tree of caps over the fleet's rows, net of what is metered beside the vehicles.

Caps are on the flow at a node's connection, so what is metered behind it beside the vehicles (PV less load) is taken
off first. `folding` brings what is left down into the vehicles' bounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from droop.numerics import kernel

Column = npt.NDArray[Any]


class Node(NamedTuple):
    """One cap as a configuration writes it.

    parent                   : name of the node it hangs from; None at the top
    first, rows              : its vehicles, its children's among them: first row and how many
    export_kw, import_kw     : what may flow out and in at its connection, magnitudes; infinite: no cap
    local_lo_kw, local_hi_kw : what is believed to flow beside the vehicles while its meter is silent, at worst:
                               most load and least PV, least load and most PV; both 0 where there is no meter
    """

    name: str
    parent: str | None
    first: int
    rows: int
    export_kw: float = np.inf
    import_kw: float = np.inf
    local_lo_kw: float = 0.0
    local_hi_kw: float = 0.0


class Tree(NamedTuple):
    """Columns of k nodes in the order of their rows, children before parents. `tree` builds it.

    first, last        : int64    rows of the node's vehicles
    parent             : int32    -1 at the top
    below              : int64    first of its descendants, which stand right before it; itself for a leaf
    export_kw, import_kw, local_lo_kw, local_hi_kw : float64, as in `Node`
    local_kw           : float64  PV less load of all that lies behind the connection but the vehicles; finite
    local_ns           : int64    when that was measured; 0: never
    upper_kw, lower_kw : float64  what that leaves for the vehicles' sum; written by `limits_of`
    lo_sum_kw, hi_sum_kw : float64  sums of the vehicles' bounds after `fold`
    over_kw            : float64  what no shedding could bring under the cap: > 0 too much out, < 0 too much in
    shed_kw            : float64  how far vehicles were moved past their bounds for this node
    blind_kw           : float64  how far its silent meter's worst cases miss both caps: then nothing is safe
    cut_lo_kw, cut_hi_kw : float64  what its caps take off the least and the most that its vehicles could be switched to
    room_kw, part      : float64  scratch
    """

    first: Column
    last: Column
    parent: Column
    below: Column
    export_kw: Column
    import_kw: Column
    local_lo_kw: Column
    local_hi_kw: Column
    local_kw: Column
    local_ns: Column
    upper_kw: Column
    lower_kw: Column
    lo_sum_kw: Column
    hi_sum_kw: Column
    over_kw: Column
    shed_kw: Column
    blind_kw: Column
    cut_lo_kw: Column
    cut_hi_kw: Column
    room_kw: Column
    part: Column


@kernel
def limits_of(tree: Tree, now_ns: int, stale_ns: int) -> None:
    """Write what each node leaves for its vehicles; a meter older than `stale_ns` is believed at its worst."""
    for k in range(tree.first.size):
        known = tree.local_ns[k] > 0 and now_ns - tree.local_ns[k] <= stale_ns
        upper = tree.export_kw[k] - (tree.local_kw[k] if known else tree.local_hi_kw[k])
        lower = -tree.import_kw[k] - (tree.local_kw[k] if known else tree.local_lo_kw[k])
        tree.blind_kw[k] = max(lower - upper, 0.0)
        if upper < lower:
            # Worst cases further apart than both caps: nothing is safe in both. Between them, as still as can be.
            upper = lower = min(max(0.0, upper), lower)
        tree.upper_kw[k] = upper
        tree.lower_kw[k] = lower


@kernel
def touched(tree: Tree, first_row: int, last_row: int) -> tuple[int, int, int, int]:
    """The top-level trees with a vehicle in a range of rows: (first_node, last_node) and all rows they cover.

    The bounds of all those rows are renewed before `fold`: it starts from bounds that no cap has narrowed.
    """
    nodes = tree.first.size
    # Rows and nodes ascend together, so the nodes' last rows are sorted.
    begin = int(np.searchsorted(tree.last, first_row, side="right"))
    end = int(np.searchsorted(tree.last, last_row, side="left"))
    while begin < nodes and tree.parent[begin] >= 0:
        begin = tree.parent[begin]
    while end < nodes and tree.parent[end] >= 0:
        end = tree.parent[end]
    first_node = tree.below[begin] if begin < nodes else nodes
    last_node = nodes
    if end < nodes:
        last_node = end + 1 if tree.first[end] < last_row else tree.below[end]
    if first_node >= last_node or first_row >= last_row:
        return 0, 0, first_row, first_row
    return first_node, last_node, tree.first[begin], tree.last[last_node - 1]


def roots(tree: Tree) -> list[tuple[int, int]]:
    """Node ranges of the top-level trees, each as `fold` takes it."""
    return [(int(tree.below[k]), k + 1) for k in range(tree.first.size) if tree.parent[k] < 0]


def leaf(tree: Tree, rows: int) -> npt.NDArray[np.int32]:
    """The deepest node of each row, -1 where there is none: the column `Fleet.site`."""
    site = np.full(rows, -1, np.int32)
    for k in range(tree.first.size - 1, -1, -1):
        site[tree.first[k] : tree.last[k]] = k
    return site


def tree(nodes: Sequence[Node | tuple[Any, ...]], rows: int) -> tuple[Tree, tuple[str, ...]]:
    """Build the columns from caps in any order; return them and the nodes' names in the columns' order.

    nodes : `Node`s or tuples of their fields
    rows  : rows of the fleet

    Raises ValueError naming the node for names used twice or unknown, cycles, rows outside the fleet, the parent
    or shared with a sibling, caps that are negative or not numbers, worst cases that are not finite or crossed.
    """
    named: dict[str, Node] = {}
    for entry in nodes:
        node = Node(*entry)
        if node.name in named:
            raise ValueError(f"{node.name}: named twice; give every node a name of its own")
        named[node.name] = node
    for node in named.values():
        _check(node, named, rows)
    order = _ordered(named)
    index = {node.name: k for k, node in enumerate(order)}
    below = np.arange(len(order))
    for k, node in enumerate(order):
        if node.parent is not None:
            below[index[node.parent]] = min(below[index[node.parent]], below[k])
    columns = {name: np.zeros(len(order)) for name in Tree._fields}
    columns |= {name: np.array([getattr(node, name) for node in order], float) for name in Node._fields[4:]}
    columns["first"] = np.array([node.first for node in order], np.int64)
    columns["last"] = np.array([node.first + node.rows for node in order], np.int64)
    columns["parent"] = np.array([-1 if node.parent is None else index[node.parent] for node in order], np.int32)
    columns["below"] = below.astype(np.int64)
    columns["local_ns"] = np.zeros(len(order), np.int64)
    built = Tree(**columns)
    limits_of(built, 0, 0)
    return built, tuple(index)


def _check(node: Node, named: dict[str, Node], rows: int) -> None:
    """Refuse a node that is wrong by itself or does not fit its parent."""
    if node.rows < 1 or node.first < 0 or node.first + node.rows > rows:
        raise ValueError(
            f"{node.name}: rows {node.first}..{node.first + node.rows} are not rows of this fleet (0..{rows}); "
            "correct first and rows, and leave out a node without vehicles"
        )
    for field in ("export_kw", "import_kw"):
        if not getattr(node, field) >= 0.0:
            raise ValueError(
                f"{node.name}: {field} takes a magnitude of 0 or more, got {getattr(node, field)}; "
                "leave it infinite where there is no cap"
            )
    if not (np.isfinite(node.local_lo_kw) and np.isfinite(node.local_hi_kw) and node.local_lo_kw <= node.local_hi_kw):
        raise ValueError(
            f"{node.name}: local_lo_kw and local_hi_kw take finite numbers in ascending order, "
            f"got {node.local_lo_kw} and {node.local_hi_kw}; 0 and 0 where nothing but vehicles is connected"
        )
    if node.parent is None:
        return
    if node.parent not in named:
        raise ValueError(f"{node.name}: its parent {node.parent} is not among the nodes; add it, or name none")
    parent = named[node.parent]
    if node.first < parent.first or node.first + node.rows > parent.first + parent.rows:
        raise ValueError(f"{node.name}: has rows outside {parent.name}; a parent's rows contain its children's")


def _ordered(named: dict[str, Node]) -> list[Node]:
    """Nodes by rows, children before parents; ValueError for siblings that share rows, and for cycles."""
    children: dict[str | None, list[Node]] = {name: [] for name in (None, *named)}
    for node in named.values():
        children[node.parent].append(node)
    for siblings in children.values():
        siblings.sort(key=lambda node: node.first)
        for left, right in itertools.pairwise(siblings):
            if right.first < left.first + left.rows:
                raise ValueError(
                    f"{right.name}: shares rows with {left.name}; give each row to one of them, "
                    "or make one the parent of the other"
                )
    # Parents first and rows descending, then all of it reversed.
    waiting, order = list(children[None]), []
    while waiting:
        order.append(waiting.pop())
        waiting += children[order[-1].name]
    if len(order) < len(named):
        lost = sorted(set(named) - {node.name for node in order})
        raise ValueError(f"{lost[0]}: is its own ancestor; let one of {', '.join(lost)} have no parent")
    return order[::-1]
