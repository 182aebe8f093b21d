"""Slow and obvious twins of bid sizing: coins thrown one by one, energy counted step by step.

Written from the rule book (10, 3.6, 5.1) and from the papers that the tests are from, not from the code.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np


def thrown(sizes_kw, present_frac, rho, blocks, rng):
    """Sums of vehicles that are there, block by block: a share from a beta distribution, then a coin for each."""
    found = []
    for _ in range(blocks):
        share = present_frac
        if rho > 0:
            share = rng.beta(present_frac * (1 - rho) / rho, (1 - present_frac) * (1 - rho) / rho)
        found.append(float(np.asarray(sizes_kw)[rng.random(len(sizes_kw)) < share].sum()))
    return np.array(found)


def one_factor(count, present_frac, rho_latent, blocks, rng):
    """Numbers of vehicles that are there if a normal factor common to all moves each one's threshold (Vasicek)."""
    from statistics import NormalDist

    edge, found = NormalDist().inv_cdf(present_frac), []
    for _ in range(blocks):
        common = rng.normal()
        own = math.sqrt(rho_latent) * common + math.sqrt(1 - rho_latent) * rng.normal(size=count)
        found.append(int((own < edge).sum()))
    return np.array(found)


def binomial_tail(x, n, share):
    """P(X >= x) of n coins, in whole fractions."""
    p = Fraction(share).limit_denominator(10**6)
    return float(sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(x, n + 1)))


def kupiec(x, n, share):
    """-2 ln of the likelihood at the share promised over that at the share seen (Kupiec 1995)."""

    def log(p):
        return (x * math.log(p) if x else 0.0) + ((n - x) * math.log(1 - p) if n - x else 0.0)

    return -2 * (log(share) - log(x / n))


def christoffersen(hits):
    """-2 ln of independence over a first-order chain (Christoffersen 1998); hits : a list of 0 and 1"""
    n = {(a, b): 0 for a in (0, 1) for b in (0, 1)}
    for pair in pairwise(hits):
        n[pair] += 1

    def log(p, k):
        return k * math.log(p) if k else 0.0

    p = (n[0, 1] + n[1, 1]) / sum(n.values())
    p01, p11 = n[0, 1] / (n[0, 0] + n[0, 1]), n[1, 1] / (n[1, 0] + n[1, 1])
    alone = log(1 - p, n[0, 0] + n[1, 0]) + log(p, n[0, 1] + n[1, 1])
    chain = log(1 - p01, n[0, 0]) + log(p01, n[0, 1]) + log(1 - p11, n[1, 0]) + log(p11, n[1, 1])
    return -2 * (alone - chain)


def emptied_h(share, step_s, sold_kw, up_kwh, down_kwh, efficiency):
    """Hours until a battery that follows a signal, again and again, is empty or full; energies at the grid."""
    out_left, in_left, t_s = up_kwh, down_kwh, 0.0
    for _ in range(10_000):
        for part in share:
            kwh = part * sold_kw * step_s / 3600
            out_left -= kwh if kwh > 0 else efficiency * kwh
            in_left += kwh / efficiency if kwh > 0 else kwh
            t_s += step_s
            if out_left <= 0 or in_left <= 0:
                return t_s / 3600
    return math.inf


def one_vehicle(up_kw, down_kw, up_kwh, down_kwh, factors):
    """C <= min(P_up / r_up, P_dn / r_dn, E_up / e_up, E_dn / e_dn) (rulebook 10)."""
    have = (up_kw, down_kw, up_kwh, down_kwh)
    return min(value / factor for value, factor in zip(have, factors, strict=True) if factor > 0)
