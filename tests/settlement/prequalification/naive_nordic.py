"""Nordic requirements, slowly and obviously, written from the technical requirements alone: loops over samples."""

from __future__ import annotations

import math


def at(t, y, when):
    """Value at a time, linear between samples."""
    for (t0, y0), (t1, y1) in zip(zip(t, y, strict=True), zip(t[1:], y[1:], strict=True), strict=False):
        if t0 <= when <= t1:
            return y0 + (y1 - y0) * (when - t0) / (t1 - t0)
    return y[-1] if when > t[-1] else y[0]


def area(t, y, start, end):
    """Area under the broken line between two times, sliver by sliver."""
    total = 0.0
    for (t0, y0), (t1, y1) in zip(zip(t, y, strict=True), zip(t[1:], y[1:], strict=True), strict=False):
        low, high = max(t0, start), min(t1, end)
        if high > low:
            slope = (y1 - y0) / (t1 - t0)
            total += (high - low) * (y0 + slope * ((low + high) / 2 - t0))
    return total


def before(t, y, when, span):
    """Mean of the samples in the span before a time."""
    seen = [v for s, v in zip(t, y, strict=True) if when - span - 1e-9 <= s < when - 1e-9]
    return sum(seen) / len(seen)


def requirement_2(t, p, ramp_s):
    return at(t, p, ramp_s + 7.5) - before(t, p, ramp_s, 10.0)


def requirement_3(t, p, ramp_s):
    rest = before(t, p, ramp_s, 10.0)
    return area(t, [v - rest for v in p], ramp_s, ramp_s + 7.5)


def requirement_4(t, p, ramp_s):
    """The largest integral from the nadir over any k up to 40 s."""
    rest, nadir = before(t, p, ramp_s, 10.0), ramp_s + 4.4
    floor = min(abs(at(t, p, nadir) - rest), 0.5)
    beyond = [v - rest - floor for v in p]
    ends = [nadir] + [s for s in t if nadir < s < nadir + 40.0] + [nadir + 40.0]
    return max(area(t, beyond, nadir, end) for end in ends)


def requirement_10(t, y, period):
    """Best sine of a known period by the normal equations of three unknowns, error over size."""
    w = 2 * math.pi / period
    rows = [(math.sin(w * s), math.cos(w * s), 1.0) for s in t]
    a = [[sum(r[i] * r[j] for r in rows) for j in range(3)] for i in range(3)]
    b = [sum(r[i] * v for r, v in zip(rows, y, strict=True)) for i in range(3)]
    for i in range(3):
        for j in range(i + 1, 3):
            factor = a[j][i] / a[i][i]
            a[j] = [x - factor * z for x, z in zip(a[j], a[i], strict=True)]
            b[j] -= factor * b[i]
    c = [0.0, 0.0, 0.0]
    for i in (2, 1, 0):
        c[i] = (b[i] - sum(a[i][j] * c[j] for j in range(i + 1, 3))) / a[i][i]
    fitted = [sum(x * z for x, z in zip(r, c, strict=True)) for r in rows]
    error = math.sqrt(sum((v - f) ** 2 for v, f in zip(y, fitted, strict=True)))
    size = math.sqrt(sum((f - c[2]) ** 2 for f in fitted))
    return complex(c[0], c[1]), error / size
