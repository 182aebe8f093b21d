"""The market's time: daylight saving, EFA blocks, settlement periods, leap seconds at the text door."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droop.promises import Market
from settlement import calendar
from settlement.align import NS
from settlement.calendar import CalendarError, blocks, day, day_of, instant, period
from tests import naive_money

EFA = Market(block_s=4 * 3600, zone="Europe/London", day_start="23:00")
CE = Market(block_s=4 * 3600, zone="Europe/Berlin")
NEM = Market(block_s=300, zone="Australia/Brisbane")
PJM = Market(block_s=1800, zone="America/New_York")
SPRING, AUTUMN, PLAIN = date(2026, 3, 29), date(2026, 10, 25), date(2026, 6, 22)
HOUR_NS = 3600 * NS


def hours(block):
    return (block.end_ns - block.start_ns) / HOUR_NS


def utc(*parts):
    return calendar.nanoseconds(datetime(*parts, tzinfo=UTC))


@pytest.mark.parametrize(("on", "count"), [(PLAIN, 48), (SPRING, 46), (AUTUMN, 50)])
@pytest.mark.parametrize("market", [EFA, CE, Market(zone="Europe/London")], ids=["EFA", "CE", "GB settlement day"])
def test_a_day_has_46_48_or_50_half_hours(on, count, market):
    """Rulebook 4.2 [V2:S7]; the twin walks the clock."""
    found = blocks(on, market, 1800)
    back, start_hour = (1, 23) if market.day_start == "23:00" else (0, 0)
    walked = naive_money.half_hours(on, market.zone, start_hour, back)
    assert len(found) == len(walked) == count
    assert [b.start_ns for b in found] == [calendar.nanoseconds(at) for at in walked]


@pytest.mark.parametrize(
    ("on", "lengths"), [(PLAIN, [4] * 6), (SPRING, [3, 4, 4, 4, 4, 4]), (AUTUMN, [5, 4, 4, 4, 4, 4])]
)
@pytest.mark.parametrize("market", [EFA, CE], ids=["EFA", "CE"])
def test_the_block_in_which_the_clock_moves_is_longer_or_shorter(on, lengths, market):
    assert [hours(b) for b in blocks(on, market)] == lengths


def test_efa_blocks_begin_at_23_of_the_evening_before():
    found = blocks(PLAIN, EFA)
    assert [b.name for b in found] == [f"EFA{k}" for k in range(1, 7)]
    assert found[0].start_ns == utc(2026, 6, 21, 22)  # 23:00 BST
    assert day_of(utc(2026, 6, 21, 22), EFA) == PLAIN
    assert day_of(utc(2026, 6, 21, 22) - 1, EFA) == date(2026, 6, 21)
    assert calendar.block_at(utc(2026, 6, 22, 2), EFA).name == "EFA2"


def test_blocks_elsewhere_are_named_by_their_hours_and_an_hour_that_comes_twice_by_its_offset():
    assert [b.name for b in blocks(PLAIN, CE)][:2] == ["00:00-04:00", "04:00-08:00"]
    names = [b.name for b in blocks(AUTUMN, CE, 3600)]
    assert len(names) == len(set(names)) == 25
    assert names[1:5] == ["01:00-02:00", "02:00-02:00 +0200", "02:00-03:00 +0100", "03:00-04:00"]
    assert [len(blocks(on, CE, 900)) for on in (PLAIN, SPRING, AUTUMN)] == [96, 92, 100]


def test_the_nem_has_no_daylight_saving_and_288_dispatch_intervals():
    assert {len(blocks(on, NEM)) for on in (PLAIN, date(2026, 10, 4), date(2026, 4, 5))} == {288}


def test_a_day_may_begin_in_the_morning():
    gas = Market(block_s=3600, zone="UTC", day_start="06:00")
    assert day_of(utc(2026, 6, 22, 5, 59), gas) == date(2026, 6, 21)
    assert day_of(utc(2026, 6, 22, 6), gas) == PLAIN
    assert day(PLAIN, gas).start_ns == utc(2026, 6, 22, 6)


def test_settlement_periods_count_from_local_midnight():
    market = Market(zone="Europe/London")
    assert period(utc(2026, 6, 21, 22), market, 1800) == (date(2026, 6, 21), 47)
    assert period(utc(2026, 6, 21, 23), market, 1800) == (PLAIN, 1)
    assert period(utc(2026, 10, 25, 23, 30), market, 1800) == (AUTUMN, 50)
    assert period(utc(2026, 3, 29, 22, 30), market, 1800) == (SPRING, 46)


@given(st.integers(0, 4_000_000_000), st.sampled_from([EFA, CE, NEM, PJM]), st.sampled_from([0, 900, 1800, 3600]))
def test_the_blocks_of_a_day_are_the_day_and_every_time_lies_in_one(t_s, market, length_s):
    t_ns = t_s * NS
    on = day_of(t_ns, market)
    whole, found = day(on, market), blocks(on, market, length_s)
    assert whole.start_ns <= t_ns < whole.end_ns
    assert (found[0].start_ns, found[-1].end_ns) == (whole.start_ns, whole.end_ns)
    assert all(a.end_ns == b.start_ns and a.end_ns > a.start_ns for a, b in pairwise(found))
    assert day(on + timedelta(days=1), market).start_ns == whole.end_ns
    assert calendar.block_at(t_ns, market, length_s) in found


def test_a_leap_second_is_the_first_of_the_next_and_says_so():
    assert instant("2016-12-31T23:59:60Z") == (utc(2017, 1, 1), True)
    assert instant("2016-12-31 23:59:60.250Z") == (utc(2017, 1, 1) + NS // 4, True)
    assert instant("2017-01-01T00:59:60+01:00") == (utc(2017, 1, 1), True)
    assert instant("2016-12-31T23:59:59Z") == (utc(2016, 12, 31, 23, 59, 59), False)
    for text in ("2016-12-30T23:59:60Z", "2016-12-31T23:58:60Z", "2016-12-31T22:59:60Z", "2016-12-31T23:59:61Z"):
        with pytest.raises(CalendarError, match=text):
            instant(text)


def test_a_local_time_must_exist_once():
    assert instant("2026-06-22 12:00", "Europe/London").t_ns == utc(2026, 6, 22, 11)
    with pytest.raises(CalendarError, match=r"exists twice in Europe/London.*offset"):
        instant("2026-10-25 01:30", "Europe/London")
    with pytest.raises(CalendarError, match="does not exist in Europe/London"):
        instant("2026-03-29 01:30", "Europe/London")
    assert instant("2026-10-25 01:30+00:00", "Europe/London").t_ns == utc(2026, 10, 25, 1, 30)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "12:00"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(CalendarError, match="is not a time"):
        instant(text)


def test_what_cannot_be_a_calendar_is_refused():
    with pytest.raises(CalendarError, match=r"Europe/Atlantis.*IANA"):
        day(PLAIN, Market(zone="Europe/Atlantis"))
    with pytest.raises(CalendarError, match=r"market\.day_start"):
        day(PLAIN, Market(day_start="25:00"))
    with pytest.raises(CalendarError, match="do not divide a day"):
        blocks(PLAIN, Market(block_s=7 * 3600))
