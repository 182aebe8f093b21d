"""One stream from two servers, against a slow and obvious account of what may go out and what is lost."""

from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.merge import Merge
from telemetry.redis_stream import Row

BOTH = (True, True)


def row(entry_id):
    return Row("s", entry_id, entry_id.encode())


def ids(rows):
    return [found.entry_id for found in rows]


def offered(merge, side, *entry_ids):
    for entry_id in entry_ids:
        merge.offer(side, row(entry_id))


def test_whichever_server_is_first_and_each_entry_once():
    merge = Merge("5-3", 2)
    offered(merge, 0, "5-4")
    assert ids(merge.ready(BOTH, 0.0)) == ["5-4"]
    offered(merge, 1, "5-4", "5-5")
    assert ids(merge.ready(BOTH, 0.0)) == ["5-5"]
    offered(merge, 0, "5-5", "5-6")
    assert ids(merge.ready(BOTH, 0.0)) == ["5-6"]
    assert (merge.duplicates, merge.missing, merge.late, merge.position) == (2, 0, 0, "5-6")


def test_what_one_server_lost_the_other_brings_in_its_place():
    merge = Merge("5-1", 2, patience_s=0.02)
    offered(merge, 0, "5-2", "5-5")
    assert ids(merge.ready(BOTH, 0.0)) == ["5-2"]
    assert merge.due_s() == 0.02
    offered(merge, 1, "5-3", "5-4")
    assert ids(merge.ready(BOTH, 0.019)) == ["5-3", "5-4", "5-5"]
    assert (merge.missing, merge.due_s()) == (0, None)


def test_patience_has_an_end_and_what_comes_after_it_is_too_late():
    merge = Merge("5-1", 2, patience_s=0.02)
    offered(merge, 0, "5-4")
    assert merge.ready(BOTH, 7.0) == []
    assert merge.ready(BOTH, 7.019) == []
    assert ids(merge.ready(BOTH, 7.02)) == ["5-4"]
    assert merge.missing == 2
    offered(merge, 1, "5-2", "5-3", "5-4")
    assert merge.ready(BOTH, 8.0) == []
    assert (merge.late, merge.duplicates, merge.missing) == (2, 1, 2)


def test_a_gap_is_not_waited_for_when_the_other_server_is_past_it_or_away():
    merge = Merge("5-1", 2)
    offered(merge, 1, "5-4")
    offered(merge, 0, "5-4")
    assert ids(merge.ready(BOTH, 0.0)) == ["5-4"]
    offered(merge, 0, "5-7")
    assert ids(merge.ready((True, False), 0.0)) == ["5-7"]
    assert merge.missing == 2 + 2


def test_the_end_of_an_epoch_may_be_on_the_other_server():
    merge = Merge("5-1", 2)
    offered(merge, 0, "6-1")  # this server was away while 5-2 was written
    assert merge.ready(BOTH, 0.0) == []
    offered(merge, 1, "5-2", "6-1")
    assert ids(merge.ready(BOTH, 0.0)) == ["5-2", "6-1"]
    offered(merge, 0, "7-3")
    offered(merge, 1, "7-3")
    assert ids(merge.ready(BOTH, 0.0)) == ["7-3"]
    assert merge.missing == 2  # a new epoch seen from its third entry on has lost two


def test_from_nowhere_nothing_is_missing():
    merge = Merge("0", 1)
    offered(merge, 0, "5-40", "5-41")
    assert ids(merge.ready((True,), 0.0)) == ["5-40", "5-41"]
    assert merge.missing == 0


def test_a_server_need_not_tell_again_what_is_known():
    merge = Merge("5-1", 2)
    offered(merge, 0, "5-2", "5-9")
    merge.ready(BOTH, 0.0)
    assert (merge.heard(0), merge.heard(1)) == ("5-9", "5-2")


entries = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(held=entries, order=st.randoms(use_true_random=False), patience=st.booleans())
def test_all_that_either_server_holds_goes_out_once_in_order(held, order, patience):
    """While nobody runs out of patience nothing is lost but what neither server holds, however the two interleave."""
    merge = Merge("0-0" if patience else "3-0", 2)
    streams = [[n for n, on in enumerate(held, 1) if on[side]] for side in (0, 1)]
    left, out = [list(streams[0]), list(streams[1])], []
    while left[0] or left[1]:
        side = order.choice([side for side in (0, 1) if left[side]])
        for _ in range(order.randint(1, 4)):
            if left[side]:
                merge.offer(side, row(f"3-{left[side].pop(0)}"))
        out += merge.ready([bool(left[0]), bool(left[1])], 0.0)
    union = sorted(set(streams[0]) | set(streams[1]))
    assert ids(out) == [f"3-{n}" for n in union]
    assert merge.duplicates == len(streams[0]) + len(streams[1]) - len(union)
    skipped = [b - a - 1 for a, b in zip([0, *union], union, strict=False)]
    assert merge.missing == sum(skipped[1:] if patience and skipped else skipped)


@settings(max_examples=200, deadline=None)
@given(held=entries, order=st.randoms(use_true_random=False))
def test_out_of_patience_order_holds_and_every_entry_is_accounted_for(held, order):
    merge = Merge("3-0", 2, patience_s=1.0)
    left = [[n for n, on in enumerate(held, 1) if on[side]] for side in (0, 1)]
    told, out, now_s = len(left[0]) + len(left[1]), [], 0.0
    while left[0] or left[1]:
        side = order.choice([side for side in (0, 1) if left[side]])
        merge.offer(side, row(f"3-{left[side].pop(0)}"))
        now_s += order.choice([0.0, 2.0])
        out += merge.ready([bool(left[0]), bool(left[1])], now_s)
    counters = [int(entry_id.split("-")[1]) for entry_id in ids(out)]
    assert counters == sorted(set(counters))
    assert len(out) + merge.duplicates + merge.late == told
    assert merge.missing == (counters[-1] if counters else 0) - len(counters)
    assert merge.late <= merge.missing
