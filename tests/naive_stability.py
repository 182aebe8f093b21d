"""A grid and a fleet as textbook equations, solved by scipy: nothing of `droop.stability` but its records is used.

The delay is taken by the method of steps: over one delay's length the delayed frequency is known from the solution
before it. The fleet is continuous: no sampling, one delay, one lag.
"""

from __future__ import annotations

import numpy as np
from scipy.integrate import solve_ivp


def curve(points, deadband_hz, dev_hz):
    """Share of the power sold: linear between points, flat outside, nothing within a step dead band."""
    if abs(dev_hz) < deadband_hz:
        return 0.0
    return float(np.interp(dev_hz, [x for x, _ in points], [y for _, y in points]))


def governor_command(one, strength_mw_hz, dev_hz):
    """Power that a governor sends for [MW]: none in the dead band, droop from its edge on, at most the reserve."""
    beyond = abs(dev_hz) - one.deadband_hz
    if beyond <= 0.0:
        return 0.0
    return -np.sign(dev_hz) * min(strength_mw_hz * beyond, one.reserve_mw)


class Machine:
    """Servo, then transient droop, reheat or water, each an equation of its own; states in MW."""

    def __init__(self, one, strength_mw_hz):
        self.one, self.strength = one, strength_mw_hz
        self.parts = []
        if one.servo_s:
            self.parts.append((0.0, one.servo_s))
        if one.transient_s and one.transient_ratio > 1:
            self.parts.append((one.transient_s, one.transient_s * one.transient_ratio))
        if one.reheat_s and one.reheat_frac < 1:
            self.parts.append((one.reheat_frac * one.reheat_s, one.reheat_s))
        if one.water_s:
            self.parts.append((-one.water_s, one.water_s / 2))

    def rates(self, dev_hz, states):
        """(derivatives, power): for y = (1 + b s)/(1 + a s) u with w = (1 - b/a)/(1 + a s) u it is y = b/a u + w."""
        signal, rates = governor_command(self.one, self.strength, dev_hz), []
        for (b, a), state in zip(self.parts, states, strict=True):
            rates.append(((1 - b / a) * signal - state) / a)
            signal = b / a * signal + state
        return rates, signal


def course(
    grid, loss_mw, until_s, *, fleet_mw=0.0, points=((-1.0, 0.0), (1.0, 0.0)), deadband_hz=0.0, delay_s=1.0, lag_s=0.0
):  # fmt: skip
    """A function of time since the loss that gives the deviation [Hz], up to `until_s`."""
    machines = [Machine(one, grid.strength_mw_hz(one)) for one in grid.governor]
    size = 1 + sum(len(machine.parts) for machine in machines) + 1
    mass_mw_s = 2 * grid.inertia_s * grid.size_mw / grid.nominal_hz
    load_mw_hz = grid.load_damping_pu * grid.size_mw / grid.nominal_hz
    pieces = []

    def before(t):
        if t <= 0:
            return 0.0
        k = min(int(t / delay_s), len(pieces) - 1)
        return float(pieces[k](t)[0])

    def rates(t, y):
        dev_hz, given_mw = y[0], y[-1]
        asked_mw = fleet_mw * curve(points, deadband_hz, before(t - delay_s)) if fleet_mw else 0.0
        out = np.zeros(size)
        power, at = -loss_mw - load_mw_hz * dev_hz, 1
        for machine in machines:
            moved, mw = machine.rates(dev_hz, y[at : at + len(machine.parts)])
            out[at : at + len(machine.parts)] = moved
            power, at = power + mw, at + len(machine.parts)
        if lag_s:
            out[-1] = (asked_mw - given_mw) / lag_s
            power += given_mw
        else:
            power += asked_mw
        out[0] = power / mass_mw_s
        return out

    y, start = np.zeros(size), 0.0
    while start < until_s:
        found = solve_ivp(rates, (start, start + delay_s), y, rtol=1e-7, atol=1e-9, max_step=0.02, dense_output=True)
        pieces.append(found.sol)
        y, start = found.y[:, -1], start + delay_s
    return lambda t_s: np.array([pieces[min(int(t / delay_s), len(pieces) - 1)](t)[0] for t in t_s])
