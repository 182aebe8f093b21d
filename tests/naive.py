"""Slow, obvious twins of the engine's kernels: plain Python, one vehicle and one number at a time.

Written from the rules (rulebook 1, 9.1, 12; kernel notes 1-2), not from the kernels; nothing of ours is imported.
Tests hold the two equal. A twin may be slow; it may not be clever.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

H_NS = 3_600_000_000_000
S_NS = 1_000_000_000

UNPLUGGED, PLUGGED, FAULT = 0, 1, 2
(
    NONE, RATING, SOC, SOH, DOD, DEPARTURE, STALE, NO_VEHICLE, FAULTY, REFUSED, HELD, TEMPERATURE, TAPER, THROUGHPUT,
    OVERRIDE, RAMPING, MINIMUM, SITE, RESPONSE,
) = range(19)  # fmt: skip
REASONS = 24
STARTING, NORMAL, HOLD, RAMP, BASELINE = range(5)
USABLE, UNUSABLE, DEAD_BUS, NO_SAMPLE = range(4)


def clip(x: float, lo: float, hi: float) -> float:
    return lo if x < lo else hi if x > hi else x


# ---- curve -------------------------------------------------------------------------------------------------


def fraction(dev_hz: float, points: Sequence[tuple[float, float]], deadband_hz: float = 0.0) -> float:
    """Straight lines between points, flat outside, nothing inside a step dead band or for NaN."""
    if math.isnan(dev_hz) or abs(dev_hz) < deadband_hz:
        return 0.0
    if dev_hz <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 <= dev_hz < x1:
            return y0 + (y1 - y0) * (dev_hz - x0) / (x1 - x0)
    return points[-1][1]


# ---- dynamics ----------------------------------------------------------------------------------------------


@dataclass
class Controller:
    """One product's delay, lag and ramp; every target ever asked is remembered."""

    delay_ns: int = 0
    tau_s: float = 0.0
    ramp_pu_s: float = math.inf
    asked: list[tuple[int, float]] = field(default_factory=list)
    lagged: float = 0.0
    given: float = 0.0

    def step(self, now_ns: int, elapsed_s: float, target: float) -> float:
        # Decisions twice the delay apart or more: the delay is nearer to none than to one of them.
        far = elapsed_s * 1e9 >= 2 * self.delay_ns
        self.asked.append((now_ns - self.delay_ns if far else now_ns, target))
        wanted = 0.0
        for t_ns, value in self.asked:
            if t_ns <= now_ns - self.delay_ns:
                wanted = value
        if self.tau_s > 0:
            self.lagged = wanted + (self.lagged - wanted) * math.exp(-elapsed_s / self.tau_s)
            wanted = self.lagged
        if math.isfinite(self.ramp_pu_s):
            most = self.ramp_pu_s * elapsed_s
            wanted = clip(wanted, self.given - most, self.given + most)
        self.given = wanted
        return wanted

    def rest(self) -> None:
        self.asked, self.lagged, self.given = [], 0.0, 0.0


# ---- supervision of the frequency --------------------------------------------------------------------------


@dataclass
class Watch:
    """Which frequency is acted on and how much of the response is given."""

    hold_ns: int
    fade_s: float
    hz: float = math.nan
    weight: float = 0.0
    mode: int = STARTING
    good_ns: int | None = None
    period_ns: int = 0
    dead: bool = False

    def see(self, now_ns: int, elapsed_s: float, hz: float, verdict: int) -> None:
        if verdict == DEAD_BUS:
            self.weight, self.mode, self.dead = 0.0, BASELINE, True
        elif verdict == USABLE and math.isfinite(hz):
            self._good(now_ns, elapsed_s, hz)
        elif self.mode != STARTING:
            self._lost(now_ns, elapsed_s)

    def _good(self, now_ns: int, elapsed_s: float, hz: float) -> None:
        self.dead = False
        gap_ns = 0 if self.good_ns is None else now_ns - self.good_ns
        # What ended at the baseline was an outage (or the first look at a very slow source), and what came in the
        # same breath is no period either.
        if gap_ns > 0 and (self.mode != BASELINE or self.period_ns == 0):
            slower = self.period_ns * 5 // 4 + 1
            self.period_ns = gap_ns if self.period_ns == 0 else min(gap_ns, slower)
        self.weight = min(1.0, self.weight + elapsed_s / self.fade_s) if self.mode in (RAMP, BASELINE) else 1.0
        self.mode = NORMAL if self.weight >= 1.0 else RAMP
        self.hz, self.good_ns = hz, now_ns

    def _lost(self, now_ns: int, elapsed_s: float) -> None:
        quiet_ns = now_ns - (self.good_ns or 0)
        if self.mode != BASELINE and quiet_ns <= max(self.hold_ns, 3 * self.period_ns):
            self.mode = HOLD if self.mode == NORMAL else self.mode
            return
        self.weight = max(0.0, self.weight - elapsed_s / self.fade_s)
        self.mode = RAMP if self.weight > 0 else BASELINE


# ---- one vehicle -------------------------------------------------------------------------------------------


@dataclass
class Car:
    """One charger and its vehicle; field names are the fleet's column names."""

    state: int = PLUGGED
    usable_kwh: float = 60.0
    soh_frac: float = 1.0
    soc_floor_kwh: float = 18.0
    ceiling_kwh: float = 54.0
    dod_floor_kwh: float = 0.0
    charge_max_kw: float = 11.0
    discharge_max_kw: float = 11.0
    eta_charge: float = 0.95
    eta_discharge: float = 0.95
    safe_kw: float = 0.0
    depart_ns: int = 0
    depart_kwh: float = 0.0
    report_ns: int = 0
    energy_kwh: float = 36.0
    energy_ns: int = 0
    command_kw: float = 0.0
    valid_until_ns: int = 0
    min_kw: float = 0.0
    ramp_kw_s: float = math.inf
    budget_kwh: float = math.inf
    moved_kwh: float = 0.0
    wear: float = 1.0
    wish: int = 0
    wish_until_ns: int = 0
    temp_c: float = math.nan
    warm_c: float = math.inf
    measured_kw: float = 0.0
    gain_up: float = 1.0
    gain_dn: float = 1.0
    refused_ns: int = 0

    def doing(self, at_ns: int) -> float:
        """Power at the grid: the last command while it stands, the safe profile after."""
        return self.command_kw if at_ns < self.valid_until_ns else self.safe_kw

    def energy_at(self, now_ns: int) -> float:
        """Energy aboard: the command up to its expiry, the safe profile from there on."""
        if now_ns <= self.energy_ns:
            return clip(self.energy_kwh, 0.0, self.usable_kwh)
        energy, at = self.energy_kwh, self.energy_ns
        for end in (min(max(self.valid_until_ns, self.energy_ns), now_ns), now_ns):
            power = self.doing(at)
            grid_kwh = power * (end - at) / H_NS
            energy -= grid_kwh / self.eta_discharge if power > 0 else grid_kwh * self.eta_charge
            energy = clip(energy, 0.0, self.usable_kwh)
            at = end
        return energy

    def drain_kw(self, kwh: float, hours: float) -> float:
        """Grid power that changes the battery by -kwh over some hours; efficiency on the right side."""
        return kwh / hours * self.eta_discharge if kwh > 0 else kwh / hours / self.eta_charge


@dataclass
class Band:
    lo: float
    hi: float
    plan: float
    up: int
    down: int
    fill: float = 0.0
    span: float = 0.0
    left_h: float = math.inf


# Charging tapers from 90 % of SoC to a fifth at 100 %, discharging weakens below 10 %; charging stops at -20 degC
# and both stop at 55 degC, from 0 and 45 on in a straight line.
TAPERS = {"full": (0.9, 0.2), "empty": (0.1, 0.2), "cold": (0.0, -20.0), "hot": (45.0, 55.0)}


def followed(gain: float) -> tuple[float, int]:
    """What a charger gives of what it is told: all, within the 2 % that a meter may be off, and where it gives more."""
    return (gain, RESPONSE) if gain < 0.98 else (1.0, RATING)


def left_of_rating(car: Car, soc: float) -> tuple[tuple[float, int], tuple[float, int]]:
    """Share of the rating left, and why: discharging, charging."""
    up, down = followed(car.gain_up), followed(car.gain_dn)
    (full, full_least), (empty, empty_least) = TAPERS["full"], TAPERS["empty"]
    (cold, cold_stop), (hot, hot_stop) = TAPERS["cold"], TAPERS["hot"]
    heat = chill = (1.0, RATING)
    if car.temp_c > hot:
        heat = chill = (max(0.0, 1 - (car.temp_c - hot) / (hot_stop - hot)), TEMPERATURE)
    elif car.temp_c < cold:
        chill = (max(0.0, 1 - (cold - car.temp_c) / (cold - cold_stop)), TEMPERATURE)
    weak = (empty_least + (1 - empty_least) * min(1.0, soc / empty), TAPER)
    taper = (full_least + (1 - full_least) * min(1.0, (1 - soc) / (1 - full)), TAPER)
    return least(up, weak, heat), least(down, taper, chill)


def needed(car: Car, target: float, left_h: float) -> float:
    """Energy from which charging reaches the target in time, through the taper: on the safe side of the integral."""
    full, full_least = TAPERS["full"]
    no_taper = left_of_rating(car, 0.5)[1][0]
    rate = car.charge_max_kw * no_taper * car.eta_charge
    knee = full * car.usable_kwh
    if target <= knee:
        return target - rate * left_h
    end = full_least + (1 - full_least) * (1 - target / car.usable_kwh) / (1 - full)
    if not rate:
        return target
    between = (1 + end) / 2

    def hours(of: float, to: float) -> float:
        """Time through half of the taper: Simpson's rule on 1 / share."""
        return (target - knee) / 2 / rate * (1 / of + 4 / ((of + to) / 2) + 1 / to) / 6

    from_middle_h = hours(between, end)
    slow_h = hours(1.0, between) + from_middle_h
    middle = (knee + target) / 2 + rate * between * (from_middle_h - left_h)
    return min(target - rate * end * left_h, middle, knee + rate * (slow_h - left_h))


def least(*shares: tuple[float, int]) -> tuple[float, int]:
    """The smallest; the first of equals."""
    return min(shares, key=lambda share: share[0])


def band(car: Car, now_ns: int, fresh_s: float, stale_s: float, horizon_s: float) -> Band:
    """Bounds and reasons of one vehicle until it is looked at again (rulebook 9.1)."""
    if car.state != PLUGGED:
        why = NO_VEHICLE if car.state == UNPLUGGED else FAULTY
        return Band(0.0, 0.0, 0.0, why, why)
    h = horizon_s / 3600
    energy = car.energy_at(now_ns)
    target = min(car.depart_kwh, car.ceiling_kwh)
    left_h = max(0, car.depart_ns - now_ns) / H_NS if car.depart_ns > 0 else math.inf
    (out, out_why), (into, into_why) = left_of_rating(car, energy / car.usable_kwh)
    out_kw, into_kw = car.discharge_max_kw * out, car.charge_max_kw * into

    ups = [(out_kw, out_why)]
    window = car.drain_kw(max(0.0, energy - car.soc_floor_kwh), h)
    # SoH is to blame when the same SoC of an unaged battery would have been enough.
    ups.append((window, SOH if window / car.soh_frac >= out_kw else SOC))
    ups.append((car.drain_kw(max(0.0, energy - car.dod_floor_kwh), h), DOD))
    if left_h >= h and left_h < math.inf:
        must = needed(car, target, left_h - h)
        ups.append((car.drain_kw(energy - must, h), DEPARTURE))
    elif left_h < h:
        # The driver leaves before the horizon ends: what is missing must be aboard by then.
        missing = energy < target and left_h > 0
        ups.append((car.drain_kw(energy - target, left_h if missing else h), DEPARTURE))
    hi, up = ups[0]
    for value, why in ups[1:]:
        if value < hi:
            hi, up = value, why
    hi = max(hi, -into_kw)

    room = max(0.0, car.ceiling_kwh - energy) / car.eta_charge / h
    lo, down = -into_kw, into_why
    if room < into_kw:
        lo, down = -room, SOH if room / car.soh_frac >= into_kw else SOC
    hi = max(hi, lo)

    need = target - energy
    if need <= 0 or left_h == math.inf:
        plan = 0.0
    else:
        plan = -into_kw if left_h == 0 else -min(need / car.eta_charge / left_h, into_kw)
    plan = clip(plan, lo, hi)

    if car.temp_c > car.warm_c:
        lo, hi, up, down = plan, plan, TEMPERATURE, TEMPERATURE
    if car.wish and now_ns < car.wish_until_ns:
        lo, hi, plan, up, down = wished(car.wish, lo, hi, plan, up, down)
    left_kwh = max(0.0, car.budget_kwh - car.moved_kwh)
    if left_kwh < math.inf:
        if car.drain_kw(left_kwh, h) < hi:
            hi, up = max(car.drain_kw(left_kwh, h), plan), THROUGHPUT
        if min(-left_kwh / car.eta_charge / h, plan) > lo:
            lo, down = min(-left_kwh / car.eta_charge / h, plan), THROUGHPUT
    age_s = (now_ns - car.report_ns) / S_NS
    if age_s >= stale_s:
        lo = hi = car.doing(now_ns)
        up = down = STALE
    elif car.refused_ns:
        lo = hi = car.measured_kw
        up = down = REFUSED
    elif age_s > fresh_s:
        middle = clip(car.doing(now_ns), lo, hi)
        share = (stale_s - age_s) / (stale_s - fresh_s)
        lo, hi = middle - (middle - lo) * share, middle + (hi - middle) * share
        up = down = HELD
    span = car.ceiling_kwh - car.soc_floor_kwh
    fill = clip(energy - car.soc_floor_kwh, 0.0, span)
    return Band(lo, hi, clip(plan, lo, hi), up, down, fill, span, left_h)


def wished(
    wish: int, lo: float, hi: float, plan: float, up: int, down: int
) -> tuple[float, float, float, int, int]:  # fmt: skip
    """The owner's override: 1 charge now, 2 never discharge, 3 leave alone."""
    if wish == 1:
        return lo, lo, lo, OVERRIDE if hi > lo else up, down
    if wish == 2:
        return lo, min(hi, 0.0), plan, OVERRIDE if hi > 0 else up, down
    return plan, plan, plan, OVERRIDE if hi > plan else up, OVERRIDE if lo < plan else down


def ramped(car: Car, b: Band, from_kw: float, ramp_s: float) -> Band:
    """What it can reach in a while from some power, where its bounds allow that; for cars without a least power."""
    reach = car.ramp_kw_s * ramp_s
    lo, hi = clip(from_kw - reach, b.lo, b.hi), clip(from_kw + reach, b.lo, b.hi)
    up, down = RAMPING if hi < b.hi - 1e-6 else b.up, RAMPING if lo > b.lo + 1e-6 else b.down
    return replace(b, lo=lo, hi=hi, plan=clip(b.plan, lo, hi), up=up, down=down)


def lean(fill_frac: float, mean_frac: float) -> float:
    """Factor on the willingness to discharge: 10 and 1/10 at the ends, 1 at the mean."""
    x = clip(2.0 * (fill_frac - mean_frac), -9 / 11, 9 / 11)
    return (1 + x) / (1 - x)


def willing(car: Car, b: Band, mean_fill: float, mean_moved: float) -> tuple[float, float]:
    """Factors on the room up and down, each within a tenth and ten."""
    g = lean(b.fill / b.span if b.span else mean_fill, mean_fill)
    own = car.moved_kwh / car.usable_kwh
    fair = 1 + 0.5 * (mean_moved - own) / (mean_moved + own + 0.02)
    rest = fair * clip(b.left_h, 0.25, 1.0) / car.wear
    return clip(g * rest, 0.1, 10.0), clip(rest / g, 0.1, 10.0)


# ---- split -------------------------------------------------------------------------------------------------


def dealt(lam: float, t: float, up: float, down: float, lo: float, hi: float) -> float:
    return clip(t + (up if lam >= 0 else down) * lam, lo, hi)


def split(
    request: float, t: Sequence[float], up: Sequence[float], down: Sequence[float], lo: Sequence[float],
    hi: Sequence[float],
) -> list[float]:  # fmt: skip
    """The optimum by bisection on the multiplier, sums exact."""
    rows = list(zip(t, up, down, lo, hi, strict=True))
    if request >= math.fsum(hi):
        return [float(x) for x in hi]
    if request <= math.fsum(lo):
        return [float(x) for x in lo]
    a, b = -11.0, 11.0
    for _ in range(200):
        middle = 0.5 * (a + b)
        if math.fsum(dealt(middle, *row) for row in rows) < request:
            a = middle
        else:
            b = middle
    return [dealt(0.5 * (a + b), *row) for row in rows]


# ---- capability --------------------------------------------------------------------------------------------


def sustained(cars: Sequence[Car], now_ns: int, hours: float) -> tuple[float, float]:
    """Power held for some hours, up and down, by the vehicles that report (rulebook 1.5)."""
    up = down = 0.0
    for car in cars:
        if car.state != PLUGGED:
            continue
        least = max(car.soc_floor_kwh, car.dod_floor_kwh)
        if car.depart_ns > 0:
            after_h = max(0.0, (car.depart_ns - now_ns) / H_NS - hours)
            target = min(car.depart_kwh, car.ceiling_kwh)
            least = max(least, target - car.charge_max_kw * car.eta_charge * after_h)
        energy = car.energy_kwh
        up += min(car.discharge_max_kw, max(0.0, energy - least) / hours * car.eta_discharge)
        down += min(car.charge_max_kw, max(0.0, car.ceiling_kwh - energy) / hours / car.eta_charge)
    return up, down


# ---- fleets ------------------------------------------------------------------------------------------------


# Within the meter's class, below it, above 1; one direction says nothing of the other.
GAINS = ((0.985, 0.7), (0.9, 1.0), (1.05, 0.985))


def some_car(rng: random.Random, now_ns: int) -> Car:
    """A vehicle in any state it can be found in, edges more often than chance would have it."""
    soh = rng.choice([1.0, 0.9, 0.7])
    usable = rng.choice([24.0, 40.0, 60.0, 100.0]) * soh
    floor, ceiling = usable * rng.choice([0.0, 0.1, 0.3]), usable * rng.choice([0.8, 0.9, 1.0])
    near = rng.choice([floor, ceiling, floor + 0.004, ceiling - 0.004, rng.uniform(0.0, usable)])
    energy = clip(near + rng.choice([0.0, 0.0, 1e-4, -1e-4]), 0.0, usable)
    power = rng.choice([3.7, 7.4, 11.0, 22.0])
    command = rng.uniform(-power, power)
    depart_in_s = rng.choice([-100.0, 0.5, 1.5, 60.0, 3600.0, 5 * 3600.0])
    age_s = rng.choice([0.0, 1.0, 2.0, 3.0, 3.5, 4.0, 4.9, 5.0, 7.0, 60.0])
    return Car(
        state=rng.choice([PLUGGED] * 8 + [UNPLUGGED, FAULT]),
        usable_kwh=usable,
        soh_frac=soh,
        soc_floor_kwh=floor,
        ceiling_kwh=ceiling,
        dod_floor_kwh=rng.choice([-5.0, energy - 0.002, energy - 0.8 * usable]),
        charge_max_kw=power,
        discharge_max_kw=rng.choice([power, power, 0.0]),
        eta_charge=rng.choice([1.0, 0.95, 0.85]),
        eta_discharge=rng.choice([1.0, 0.95, 0.85]),
        safe_kw=rng.choice([0.0, -1.4]),
        depart_ns=rng.choice([0, now_ns + int(depart_in_s * S_NS)]),
        depart_kwh=rng.choice([0.0, energy + 0.003, 0.8 * usable, usable]),
        report_ns=now_ns - int(age_s * S_NS),
        energy_kwh=energy,
        energy_ns=now_ns - int(rng.choice([0.0, age_s, 1.0]) * S_NS),
        command_kw=command,
        valid_until_ns=now_ns + int(rng.choice([-60.0, -0.5, 0.0, 0.5, 4.0]) * S_NS),
        ramp_kw_s=rng.choice([math.inf] * 4 + [0.5, 5.0]),
        budget_kwh=rng.choice([math.inf] * 4 + [10.0]),
        moved_kwh=rng.choice([0.0, 3.0, 9.998, 12.0]),
        wear=rng.choice([1.0, 1.0, 0.5, 3.0]),
        wish=rng.choice([0] * 6 + [1, 2, 3]),
        wish_until_ns=now_ns + int(rng.choice([-1.0, 0.0, 2.0, 3600.0]) * S_NS),
        temp_c=rng.choice([math.nan] * 3 + [-30.0, -12.0, 0.0, 25.0, 45.0, 51.0, 60.0]),
        warm_c=rng.choice([math.inf] * 5 + [24.0]),
        measured_kw=rng.choice([0.0, -1.4, 2.0]),
        **rng.choice([{}] * 3 + [{"gain_up": up, "gain_dn": down} for up, down in GAINS]),
        refused_ns=rng.choice([0] * 9 + [now_ns - S_NS]),
    )


# ---- the whole tick ----------------------------------------------------------------------------------------


@dataclass
class Tick:
    request: float
    response: float
    unserved: float
    lo: float
    hi: float
    power: list[float]
    reasons: list[float]
    mode: int


@dataclass
class Line:
    """Every rule above in the order of a tick; what chargers were told comes back in as messages."""

    cars: list[Car]
    watch: Watch
    sold: list[tuple[float, float, Sequence[tuple[float, float]], float, Controller]]  # kW, nominal, curve, band
    ages: tuple[float, float, float]
    period_ns: int
    segments: int
    validity_ns: int
    last_ns: int = 0
    bands: list[Band] = field(default_factory=list)
    slopes: list[tuple[float, float]] = field(default_factory=list)
    renewed_ns: list[int] = field(default_factory=list)
    wake_ns: list[float] = field(default_factory=list)
    ramped_ns: list[int] = field(default_factory=list)
    ramped_from: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        n = len(self.cars)
        self.bands = [Band(0, 0, 0, NO_VEHICLE, NO_VEHICLE)] * n
        self.slopes = [(1e-6, 1e-6)] * n
        self.renewed_ns, self.wake_ns = [0] * self.segments, [0.0] * self.segments
        self.ramped_ns, self.ramped_from = [0] * self.segments, [0.0] * n

    def rows(self, segment: int) -> range:
        n = len(self.cars)
        return range(segment * n // self.segments, (segment + 1) * n // self.segments)

    def counted(self) -> list[Band]:
        return [b for b in self.bands if b.up not in (NO_VEHICLE, FAULTY, STALE, REFUSED)]

    def renew(self, now_ns: int) -> None:
        window = sum(b.span for b in self.counted())
        mean = sum(b.fill for b in self.counted()) / window if window > 0 else 0.5
        counts = [car for car, b in zip(self.cars, self.bands, strict=True) if b in self.counted()]
        capacity = sum(car.usable_kwh for car in counts)
        moved = sum(car.moved_kwh for car in counts) / capacity if capacity else 0.0
        for segment in range(self.segments):
            first = self.renewed_ns[segment] == 0
            late = now_ns - self.renewed_ns[segment] >= self.period_ns or now_ns >= self.wake_ns[segment]
            if not (first or late):
                continue
            wakes = [math.inf]
            if self.ramped_ns[segment] == 0 or now_ns - self.ramped_ns[segment] >= S_NS:
                self.ramped_ns[segment] = now_ns
            for row in self.rows(segment):
                car = self.cars[row]
                if self.ramped_ns[segment] == now_ns:
                    self.ramped_from[row] = car.doing(now_ns)
                b = ramped(car, band(car, now_ns, *self.ages), self.ramped_from[row], 1.0)
                dead = b.up in (NO_VEHICLE, FAULTY)
                g_up, g_dn = willing(car, b, mean, moved)
                self.slopes[row] = (max((b.hi - b.plan) * g_up, 1e-6), max((b.plan - b.lo) * g_dn, 1e-6))
                self.bands[row] = b
                if car.wish and not dead and now_ns < car.wish_until_ns:
                    wakes.append(car.wish_until_ns)
                if b.up == STALE and now_ns < car.valid_until_ns:
                    wakes.append(car.valid_until_ns)
                elif not dead and b.up != STALE:
                    wakes.append(car.report_ns + round(self.ages[1] * S_NS))
            self.wake_ns[segment] = min(wakes)
            self.renewed_ns[segment] = now_ns - (segment * self.period_ns // self.segments if first else 0)

    def lost(self, up: bool) -> list[float]:
        """Rated power that limits take away, by reason."""
        out = [0.0] * REASONS
        for car, b in zip(self.cars, self.bands, strict=True):
            taken = car.discharge_max_kw - b.hi if up else car.charge_max_kw + b.lo
            if b.up != NO_VEHICLE:
                out[b.up if up else b.down] += max(taken, 0.0)
        return out

    def tick(self, now_ns: int, hz: float, verdict: int, baseline: float, signal: float) -> Tick:
        elapsed = (now_ns - self.last_ns) / S_NS if self.last_ns else 0.0
        self.last_ns = now_ns
        was_dead = self.watch.dead
        self.watch.see(now_ns, elapsed, hz, verdict)
        if self.watch.dead:
            signal = 0.0
            for *_, controller in self.sold:
                controller.rest()
        response = signal
        for kw, nominal, points, deadband, controller in self.sold:
            target = self.watch.weight * fraction(self.watch.hz - nominal, points, deadband)
            response += kw * controller.step(now_ns, elapsed, target)
        request = baseline + response
        if was_dead and not self.watch.dead:
            self.renewed_ns = [0] * self.segments
        self.renew(now_ns)
        if self.watch.dead:
            # Nobody who hears us discharges into a dead bus, not even to balance another's charging.
            for b in self.bands:
                if b.up not in (NO_VEHICLE, FAULTY, STALE, REFUSED):
                    b.lo, b.hi, b.plan = min(b.lo, 0.0), min(b.hi, 0.0), min(b.plan, 0.0)
        lo, hi = math.fsum(b.lo for b in self.bands), math.fsum(b.hi for b in self.bands)
        unserved = request - clip(request, lo, hi)
        power = split(
            request, [b.plan for b in self.bands], [s[0] for s in self.slopes], [s[1] for s in self.slopes],
            [b.lo for b in self.bands], [b.hi for b in self.bands],
        )  # fmt: skip
        reasons = [0.0] * REASONS
        if unserved:
            taken = self.lost(unserved > 0)
            share = min(1.0, abs(unserved) / sum(taken)) if sum(taken) else 0.0
            reasons = [math.copysign(x * share, unserved) for x in taken]
            reasons[RATING] += math.copysign(max(0.0, abs(unserved) - sum(taken)), unserved)
        return Tick(request, response, unserved, lo, hi, power, reasons, self.watch.mode)

    def told(self, slot: int, setpoint_kw: float, now_ns: int) -> None:
        """A charger hears its set-point."""
        car = self.cars[slot]
        car.moved_kwh += abs(car.energy_at(now_ns) - car.energy_kwh)
        car.energy_kwh, car.energy_ns = car.energy_at(now_ns), max(now_ns, car.energy_ns)
        car.command_kw, car.valid_until_ns = setpoint_kw, now_ns + self.validity_ns
