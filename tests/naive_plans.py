"""Slow, obvious twin of the charging plans: one vehicle, small steps, lists. From docs/fleets.md, not from the code.

A vehicle is a dict: energy_kwh, target_kwh, usable_kwh, charge_kw (before the taper), eta, depart_h (None: not known);
times are hours from now. The taper is that of `Derating`: full up to `taper_from`, then linear in the state of charge
down to `taper_least` when full.
"""

TAPER_FROM, TAPER_LEAST = 0.85, 0.1


def share(energy_kwh, usable_kwh):
    soc = energy_kwh / usable_kwh
    if soc <= TAPER_FROM:
        return 1.0
    return 1.0 - (1.0 - TAPER_LEAST) * (soc - TAPER_FROM) / (1.0 - TAPER_FROM)


def charged(car, hours, step_h=1e-4):
    """Energy aboard after charging with all there is, by small steps."""
    energy = car["energy_kwh"]
    steps = max(int(hours / step_h), 1)
    for _ in range(steps):
        middle = energy + 0.5 * hours / steps * car["charge_kw"] * car["eta"] * share(energy, car["usable_kwh"])
        energy += hours / steps * car["charge_kw"] * car["eta"] * share(middle, car["usable_kwh"])
    return energy


def hours_to_go(car, step_h=1e-3):
    """How long it takes to the target, by small steps."""
    energy, hours = car["energy_kwh"], 0.0
    while energy < car["target_kwh"]:
        more = step_h * car["charge_kw"] * car["eta"] * share(energy, car["usable_kwh"])
        hours += step_h * min((car["target_kwh"] - energy) / more, 1.0)
        energy += more
    return hours


def cheapest(prices, slot_h, begun_h, depart_h, to_go_h):
    """Hours charged in each slot from the present one on: the cheapest first, of equals the earlier.

    prices : of the present slot and the later ones; begun_h : how much of the present one is over
    """
    left = to_go_h
    taken = [0.0] * len(prices)
    for k in sorted(range(len(prices)), key=lambda k: (prices[k], k)):
        begin = k * slot_h - begun_h
        length = min(begin + slot_h, depart_h) - max(begin, 0.0)
        taken[k] = min(max(length, 0.0), left)
        left -= taken[k]
    return taken


def charging_steps(kind, car, prices, slot_h, begun_h, count, step_h, lead_h):
    """Whether the vehicle charges in each of the next steps, looking at each anew as time goes."""
    to_go = hours_to_go(car)
    depart = car["depart_h"]
    if kind == "immediate" or depart is None or depart <= 0:
        return [step * step_h < to_go for step in range(count)]
    if kind == "delayed":
        begin = max(depart - to_go - lead_h, 0.0)
        return [begin <= step * step_h < begin + to_go for step in range(count)]
    taken = cheapest(prices, slot_h, begun_h, depart, to_go)
    out = []
    for step in range(count):
        slot = int((begun_h + step * step_h) / slot_h + 1e-9)
        since = step * step_h - max(slot * slot_h - begun_h, 0.0)
        out.append(since < taken[slot] - 1e-9)
    return out
