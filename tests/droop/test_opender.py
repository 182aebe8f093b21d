"""Trip and entry to service against EPRI's OpenDER, where it is installed (`pip install opender pandas`)."""

from __future__ import annotations

import math

import pytest

from droop.protection import IEEE_1547, IN_SERVICE, TRIPPED, in_service, protect, relay

STEP_S = 0.05
S = 10**9


def theirs(hz):
    """Status and share of the demanded power at each step."""
    pytest.importorskip("opender", reason="opender is not installed; it is an oracle, not a dependency")
    from opender import DER_BESS
    from opender.der import DER

    before, DER.t_s = DER.t_s, STEP_S
    try:
        unit = DER_BESS()
        found = []
        for value in hz:
            unit.update_der_input(v_pu=1.0, f=value, p_dem_pu=1.0)
            unit.run()
            found.append((unit.der_status, float(unit.p_out_pu)))
        return found
    finally:
        DER.t_s = before


def ours(hz):
    limits = relay(IEEE_1547, 60.0)
    guard, found = in_service(limits), []
    for k, value in enumerate(hz):
        protect(guard, limits, S + round(k * STEP_S * S), value, 1.0, True, False)
        found.append((int(guard.state[0]), float(guard.share[0])))
    return found


def first(found, holds):
    return next((k for k, item in enumerate(found) if holds(item)), None)


@pytest.mark.parametrize("beyond_hz", [56.4, 56.49, 62.01, 62.5])
def test_trips_within_a_step_of_it(beyond_hz):
    hz = [60.0] * 20 + [beyond_hz] * 40
    a, b = first(theirs(hz), lambda item: item[0] == "Trip"), first(ours(hz), lambda item: item[0] == TRIPPED)
    assert a is not None
    assert abs(a - b) <= 1


@pytest.mark.parametrize("inside_hz", [56.51, 58.4, 61.3, 61.9])
def test_rides_through_what_it_rides_through(inside_hz):
    hz = [60.0] * 20 + [inside_hz] * 200 + [60.0] * 20
    assert first(theirs(hz), lambda item: item[0] == "Trip") is None
    assert first(ours(hz), lambda item: item[0] == TRIPPED) is None


def test_enters_service_as_it_does():
    """After 300 s in the window, along 300 s of ramp; a step of time either way."""
    hz = [56.0] * 20 + [60.0] * round(620 / STEP_S)
    a, b = theirs(hz), ours(hz)
    for (_, their_share), (_, our_share) in zip(a[25:], b[25:], strict=True):
        assert our_share == pytest.approx(their_share, abs=3 * STEP_S / 300.0 + 1e-9)
    assert b[-1][0] == IN_SERVICE
    assert not math.isnan(b[-1][1])
