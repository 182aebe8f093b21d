"""Slow, obvious twins of the scores, written from the rules and not from the code: loops, one sample at a time."""

from __future__ import annotations

import math

import numpy as np


def neso_bounds(target, step_s, lag=(0.2, 0.55), ramp=(2.0, 4.0)):
    """Bounds of the published script, with every frequency of the window looked at for every sample."""
    near, far = round(lag[0] / step_s), round(lag[1] / step_s)
    least, most = [], []
    for k in range(len(target)):
        window = [target[max(0, j)] for j in range(k - far, k - near + 1)]
        least.append(min(window))
        most.append(max(window))
    lower = limited(least, ramp[0] * step_s, ramp[1] * step_s)
    upper = limited(most, ramp[1] * step_s, ramp[0] * step_s)
    return lower, upper


def limited(values, up, down):
    """Follow by at most `up` and `down` a sample."""
    out = []
    for k, value in enumerate(values):
        before = out[-1] if k else value
        out.append(min(max(value, before - down), before + up))
    return out


def neso_error(response, target, available, step_s, run=4):
    """Largest minimum of `run` errors in a row."""
    lower, upper = neso_bounds(target, step_s)
    start = None
    seen = None
    errors = []
    for k in range(len(target)):
        if available[k]:
            if seen is None or (k - seen - 1) * step_s > 29 * 60:
                start = k
            seen = k
        low, high = lower[k], upper[k]
        if start is not None and (k - start) * step_s <= 1.0 + 1e-9:
            low, high = 0.0, 1.0
        error = max(0.0, low - response[k], response[k] - high) if available[k] else 0.0
        errors.append(error if error > 1e-9 else 0.0)
    return max(min(errors[max(0, k - run + 1) : k + 1]) for k in range(len(errors)))


def pearson(x, y):
    """Correlation, by its definition."""
    n = len(x)
    mx, my = math.fsum(x) / n, math.fsum(y) / n
    up = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    down = math.sqrt(math.fsum((a - mx) ** 2 for a in x) * math.fsum((b - my) ** 2 for b in y))
    return up / down if down > 0 else 0.0


def spread(x):
    """Standard deviation of the population."""
    mean = math.fsum(x) / len(x)
    return math.sqrt(math.fsum((a - mean) ** 2 for a in x) / len(x))


def slope(y):
    """Least-squares slope per sample."""
    return float(np.polyfit(range(len(y)), y, 1)[0])


def pjm_windows(signal, response, step=10.0, propagation=0.0, norm="5min", flat=0.01):
    """(correlation, delay, precision) of each window of 30 samples, None where it is not scored."""
    n, rows = round(300 / step), []
    response = [*response, *[math.nan] * (len(signal) + n - len(response))]
    known = [0.0 if math.isnan(value) else value for value in response]
    means = [sum(abs(v) for v in signal[k : k + n]) / n for k in range(0, len(signal) - n + 1, n)]
    for w in range(len(signal) // n):
        x = signal[w * n : (w + 1) * n]
        if any(math.isnan(value) for value in x):
            rows.append(None)
            continue
        best, unmoved = None, False
        if spread(x) < flat:
            y = known[w * n : (w + 1) * n]
            best = (0.0, 1 - abs(slope(x) - slope(y)), 1.0)
        else:
            for lag in range(n + 1):
                y = known[w * n + lag : (w + 1) * n + lag]
                if spread(y) < 1e-5:
                    continue
                delay = min(1.0, max(0.0, 1 - max(0.0, lag * step - propagation) / 300))
                r = pearson(x, y)
                if best is None or r + delay > best[0] + 1e-9:
                    best = (r + delay, r, delay)
            unmoved = best is None
        hour = [m for m in means[w // 12 * 12 : w // 12 * 12 + 12] if not math.isnan(m)]
        scale = means[w] if norm == "5min" else sum(hour) / len(hour)
        errors = []
        for lag in {0, round(propagation / step)}:
            total = 0.0
            for i in range(n):
                error = abs(known[w * n + lag + i] - x[i])
                total += max(error, scale) if math.isnan(response[w * n + lag + i]) else error
            errors.append(total / n)
        error = min(errors)
        if scale <= 1e-9 and error <= 1e-9:
            rows.append(None)
            continue
        precision = 0.0 if scale <= 1e-9 or unmoved else min(1.0, max(0.0, 1 - error / scale))
        _, c, d = best if best is not None else (0.0, 0.0, 0.0)
        rows.append((min(1.0, max(0.0, c)), d, precision))
    return rows


def caiso(agc, telemetry, before=math.nan):
    """(accuracy, mileage) of one direction over one period."""
    error = asked = moved = 0.0
    last = before
    for point, meter in zip(agc, telemetry, strict=True):
        if not math.isnan(point):
            asked += abs(point)
            error += abs(point - (0.0 if math.isnan(meter) else meter))
            if not math.isnan(last):
                moved += abs(point - last)
        last = point
    return (max(0.0, 1 - error / asked) if asked else None), moved


def tracking(points, response, capacity, lag):
    """Distance from the band of the last set points, in units of the capacity."""
    out = []
    for k, value in enumerate(response):
        band = [points[max(0, j)] for j in range(k - lag, k + 1)]
        out.append(1.0 if math.isnan(value) else max(0.0, min(band) - value, value - max(band)) / capacity)
    return out


def miso(points, response, lag=0):
    """(instructed, made) mileage."""
    instructed = done = 0.0
    for k in range(1, len(points) - lag):
        want = points[k] - points[k - 1]
        move = response[k + lag] - response[k + lag - 1]
        if math.isnan(want):
            continue
        instructed += abs(want)
        if not math.isnan(move) and want * move > 0:
            done += min(abs(move), abs(want))
    return instructed, done


def mass_average(power, step, origin, start, stop):
    """Mean over a window, cell by cell."""
    total = 0.0
    for k, value in enumerate(power):
        overlap = min((k + 1) * step, origin + stop) - max(k * step, origin + start)
        total += value * max(0.0, overlap)
    return total / (stop - start)


def fpp(deviation, measure):
    """(raise, lower, helpful, harmful)."""
    up = down = good = bad = 0.0
    for dev, need in zip(deviation, measure, strict=True):
        work = (0.0 if math.isnan(dev) else dev) * need
        if need > 0:
            up += work
        else:
            down += work
        good, bad = good + max(0.0, work), bad + max(0.0, -work)
    return up, down, good, bad


def afrr(response, points, capacity, step=4.0, full=300.0, tol=0.05):
    """(inside, under, over) shares."""
    rate = capacity * step / full
    at, counts = 0.0, [0, 0, 0]
    for value, point in zip(response, points, strict=True):
        was = at
        at = min(max(point, at - rate), at + rate)
        low = min(point, was, at) - tol * capacity
        high = max(point, was, at) + tol * capacity
        edge = 1e-9 * capacity
        if math.isnan(value):
            counts[1] += 1
        elif low - edge <= value <= high + edge:
            counts[0] += 1
        else:
            short = (value < low and low - edge > 0) or (value > high and high + edge < 0)
            counts[1 if short else 2] += 1
    return tuple(count / len(points) for count in counts)


def nordic(response, target, capacity, settle, average=1, under=0.05, over=0.20, asked=None,
           counted=None):  # fmt: skip
    """(inside, under, over) shares. Both means are over the cells in which both are known."""

    def mean(values, k):
        cells = [j for j in range(max(0, k - average + 1), k + 1) if not math.isnan(response[j])]
        known = [values[j] for j in cells if asked is None or asked[j]]
        return sum(known) / len(known) if known else values[k]

    lines = [mean(target, k) for k in range(len(target))]
    counts = [0, 0, 0]
    for k, value in enumerate(response):
        if counted is not None and not counted[k]:
            continue
        if math.isnan(value):
            counts[1] += 1
            continue
        value = mean(response, k)
        line = [lines[max(0, j)] for j in range(k - settle, k + 1)]
        low, high = min(line), max(line)
        wide = [under + (over - under) * min(abs(v) / capacity, 1.0) for v in (low, high)]
        low -= capacity * (under if low >= 0 else wide[0])
        high += capacity * (under if high <= 0 else wide[1])
        edge = 1e-9 * capacity
        if low - edge <= value <= high + edge:
            counts[0] += 1
        else:
            counts[1 if (value < low and low > 0) or (value > high and high < 0) else 2] += 1
    return tuple(count / sum(counts) for count in counts)


def support(response, known, start, step, full, hold, tol):
    """Share of the support given in full."""
    first = start + math.ceil(full / step - 1e-9)
    cells = range(first, min(len(response), first + math.ceil(hold / step - 1e-9)))
    good = [bool(known[k]) and response[k] >= 1 - tol - 1e-9 for k in cells]
    return sum(good) / len(good) if good else None


def primary(response, target, start, step):
    """Delivered over expected change, None where none was expected."""

    def mean(values, low, high, instead=None):
        part = values[max(0, start + round(low / step)) : max(0, start + round(high / step))]
        known = [instead if math.isnan(v) else v for v in part if instead is not None or not math.isnan(v)]
        return sum(known) / len(known) if known else None

    base = mean(response, -16, -2)
    expected = (mean(target, 20, 52) or 0.0) - (mean(target, -16, -2) or 0.0)
    if expected == 0:
        return None
    later = None if base is None else mean(response, 20, 52, base)
    delivered = 0.0 if later is None else later - base
    return min(1.0, max(0.0, delivered / expected))
