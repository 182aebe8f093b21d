"""The last door before the chargers: a table of refusals, and nothing can break it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.setpoints import SETPOINT, SetpointMessage, encode
from aggregator.sink import CommandSink, Refusal

KEY = b"k" * 32
NOW = 1_790_000_000 * 10**9
S = 10**9


def message(epoch=5, sequence=10, issued_s=0.0, valid_s=10.0, key=KEY, key_id=1, kw=1.0):
    rows = np.array([(1, 1, kw)], SETPOINT)
    issued_ns = NOW + int(issued_s * S)
    return encode(
        rows, key, key_id=key_id, epoch=epoch, sequence=sequence,
        t_ns=issued_ns, issued_ns=issued_ns, valid_until_ns=issued_ns + int(valid_s * S),
    )  # fmt: skip


@pytest.fixture
def sink():
    """One that has let (5, 10) through."""
    sink = CommandSink({1: KEY})
    assert isinstance(sink.accept(message(), NOW), SetpointMessage)
    return sink


REFUSED = {
    "the same once more": ("replayed", message()),
    "an earlier one": ("replayed", message(sequence=9)),
    "an old worker": ("stale_epoch", message(epoch=4, sequence=99)),
    "ran out now": ("expired", message(sequence=11, issued_s=-10)),
    "ran out long ago": ("expired", message(sequence=11, issued_s=-50)),
    "promises too much": ("validity", message(sequence=11, valid_s=60.001)),
    "promises nothing": ("validity", message(sequence=11, valid_s=0)),
    "ends before it begins": ("validity", message(sequence=11, valid_s=-1)),
    "from the future": ("future", message(sequence=11, issued_s=2.001)),
    "signed with another key": ("forged", message(sequence=11, key=b"x" * 32)),
    "an unknown key": ("key", message(sequence=11, key_id=2)),
    "cut off": ("length", message(sequence=11)[:-1]),
    "nothing": ("short", b""),
    "another protocol": ("magic", b"\x16\x03" + message(sequence=11)[2:]),
    "replayed and expired and forged": ("forged", message(issued_s=-50, key=b"x" * 32)),
    "replayed and expired": ("replayed", message(issued_s=-50)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name_counted_and_without_effect(sink, case):
    reason, data = REFUSED[case]
    answer = sink.accept(data, NOW)
    assert isinstance(answer, Refusal)
    assert answer.reason == reason
    assert sink.refused == {reason: 1}
    assert (sink.last, sink.accepted) == ((5, 10), 1)
    assert isinstance(sink.accept(message(sequence=11), NOW), SetpointMessage)


@pytest.mark.parametrize(
    "data",
    [
        message(sequence=11),
        message(sequence=1000),
        message(epoch=6, sequence=0),
        message(sequence=11, valid_s=60),
        message(sequence=11, issued_s=2),
        message(sequence=11, issued_s=-9.999),
    ],
)
def test_the_limits_themselves_are_let_through(sink, data):
    assert isinstance(sink.accept(data, NOW), SetpointMessage)


def test_an_earlier_life_is_remembered():
    sink = CommandSink({1: KEY}, last=(5, 10))
    assert sink.accept(message(), NOW).reason == "replayed"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_only_rising_pairs_get_through_each_once(pairs):
    """Duplicated and reordered as a network likes it: the effect is that of a rising sequence."""
    sink = CommandSink({1: KEY})
    through = [
        (answer.epoch, answer.sequence)
        for epoch, sequence in pairs
        if isinstance(answer := sink.accept(message(epoch, sequence), NOW), SetpointMessage)
    ]
    assert all(later > earlier for earlier, later in itertools.pairwise(through))
    assert (max(pairs) in through) if pairs else not through
    assert sink.accepted + sink.refused.total() == len(pairs)


@given(st.binary(max_size=300), st.sampled_from([b"", b"FS\x01"]), st.integers(-(2**63), 2**63))
def test_no_bytes_raise(data, start, now_ns):
    sink = CommandSink({1: KEY})
    assert isinstance(sink.accept(start + data, now_ns), Refusal)
    assert (sink.last, sink.refused.total()) == (None, 1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), *[st.integers(-(2**63), 2**63 - 1)] * 3)
def test_no_signed_header_raises(epoch, sequence, t_ns, issued_ns, valid_until_ns):
    sink = CommandSink({1: KEY})
    stamps = {"t_ns": t_ns, "issued_ns": issued_ns, "valid_until_ns": valid_until_ns}
    data = encode(np.zeros(0, SETPOINT), KEY, key_id=1, epoch=epoch, sequence=sequence, **stamps)
    assert isinstance(sink.accept(data, NOW), SetpointMessage | Refusal)
