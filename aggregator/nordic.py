"""Logged operation data as the Nordic TSOs ask for it: one CSV a service and day, a row a second.

Form of the file and its name: Test Program for Prequalification of FCR, 28 March 2025, 11.1 and Table 19: ASCII,
comma, decimal point, CRLF, powers in MW and positive when injected, at least three decimals. What the journal does
not hold each second (endurance left, energy management, state of charge) stays empty rather than guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from aggregator import journal_reader
from aggregator.journal import Kind
from droop.products import Product
from settlement import align, delivered, expected
from settlement.align import NS, Cells, Floats, Grid, Ints
from settlement.facts import Meters, Samples
from settlement.statement import Statement, iso

SERVICES: Final = {"nordic_fcr_n": "Fcrn", "nordic_fcr_d_up": "FcrdUp", "nordic_fcr_d_down": "FcrdDo"}
LEAD_NS: Final = 60 * NS  # calls lie behind the source times of their rows, and a filter needs what came before
KW: Final = 1000.0


class NordicError(ValueError):
    """A run that has no such data; the message names the option and the remedy."""


class Seconds(NamedTuple):
    """What a file says, a row a second; NaN is written as an empty cell. applied_hz: of a test, nothing in operation

    t_ns : int64[n]; power_kw, hz, applied_hz, baseline_kw, capacity_kw, on, strength_kw_hz, lo_kw, hi_kw,
    activated_kw : float64[n]
    """

    t_ns: Ints
    power_kw: Floats
    hz: Floats
    applied_hz: Floats
    baseline_kw: Floats
    capacity_kw: Floats
    on: Floats
    strength_kw_hz: Floats
    lo_kw: Floats
    hi_kw: Floats
    activated_kw: Floats


def service(product: Product) -> str | None:
    """The Nordic name of a product's service; None for others."""
    found = [name for name in SERVICES if product.id == name or product.id.startswith(f"{name}_")]
    return SERVICES[max(found, key=len)] if found else None


def headers(name: str) -> list[str]:
    """The columns of a service's file (Table 19)."""
    of = [f"{column}_{name}" for column in ("ContMode", "Cap", "ContStatus", "RegStr")]
    energy = [f"{column}_{name}" for column in ("Activated", "ResSize", "NEM_MW", "NEM", "AEM")]
    return ["DateTime", "InsAcPow", "GridFreq", "ApplFreqSig", "CalcBaseline", *of, "Pmin", "Pmax", *energy, "SOC"]


def file_name(resource: str, name: str, test: str, area: str, start_ns: int, end_ns: int, rate_s: float) -> str:
    """`[Resource]_[Service]_[TestType]_[Area]_[Timezone]_[Interval]_[SamplingRate]_[Date].csv`, in UTC.

    The test program's own text ends with the rate; the date, that of the first row, comes after it.
    """
    _named(resource=resource, test=test, area=area)
    first, last = (datetime.fromtimestamp(t_ns // NS, UTC) for t_ns in (start_ns, end_ns))
    rate = f"{rate_s:g}s" if rate_s >= 1 else f"{rate_s * 1000:g}ms"
    span = f"{first:%Y%m%dT%H%M}-{last:%Y%m%dT%H%M}"
    return f"{resource}_{name}_{test}_{area}_UTC_{span}_{rate}_{first:%Y%m%d}.csv"


def check(products: Mapping[str, Product], resource: str, area: str) -> None:
    """Refuse a run that has no such service, and names that no file can have. Raises NordicError."""
    _named(resource=resource, area=area)
    if not any(service(product) for product in products.values()):
        raise NordicError(f"--nordic: the run sold none of {', '.join(SERVICES)}; leave it out")


def _named(**texts: str) -> None:
    for field, text in texts.items():
        if not text.isascii() or not text.replace("-", "").isalnum():
            raise NordicError(f"field `{field}` takes letters, digits and hyphens, not {text!r}")


def text(name: str, mode: str, seconds: Seconds) -> bytes:
    """The file's bytes. mode : identifier of the control mode"""
    columns = [
        _stamps(seconds.t_ns), _figures(seconds.power_kw / KW), _figures(seconds.hz), _figures(seconds.applied_hz),
        _figures(seconds.baseline_kw / KW), [mode] * seconds.t_ns.size, _figures(seconds.capacity_kw / KW),
        [f"{on:.0f}" for on in seconds.on.tolist()], _figures(seconds.strength_kw_hz / KW),
        _figures(seconds.lo_kw / KW), _figures(seconds.hi_kw / KW), _figures(seconds.activated_kw / KW),
    ]  # fmt: skip
    names = headers(name)
    unknown = [[""] * seconds.t_ns.size] * (len(names) - len(columns))
    lines = [",".join(names), *(",".join(row) for row in zip(*columns, *unknown, strict=True))]
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def files(
    folder: Path, statements: Sequence[Statement], products: Mapping[str, Product], resource: str, area: str
) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file of a journal's run, by service and UTC day, from its recorded rows."""
    days: dict[tuple[str, str], list[Statement]] = {}
    for item in statements:
        if service(products[item.product]) is not None and item.until_ns > item.start_ns:
            days.setdefault((item.product, iso(item.start_ns)[:10]), []).append(item)
    for (product_id, _), items in days.items():
        product = products[product_id]
        name = str(service(product))
        parts = [_interval(folder, item, products) for item in items]
        seconds = Seconds(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        end_ns = max(item.until_ns for item in items)
        yield (
            file_name(resource, name, "Operation", area, items[0].start_ns, end_ns, 1.0),
            text(name, product.id.replace("_", "").upper(), seconds),
        )


def _interval(folder: Path, item: Statement, products: Mapping[str, Product]) -> Seconds:
    """One settlement interval, second by second; the baseline as it stood when each tick was decided."""
    cells = (item.until_ns - item.start_ns) // NS
    grid, low_ns, high_ns = Grid(item.start_ns, NS, cells), item.start_ns - LEAD_NS, item.until_ns + LEAD_NS
    f, m, ticks = (
        journal_reader.read(folder, kind, low_ns, high_ns).rows for kind in (Kind.SAMPLES, Kind.METERS, Kind.TICKS)
    )
    samples = Samples(f["t_ns"], f["hz"], f["quality"] == 0)
    meters = Meters(m["t_ns"], m["power_kw"], m["meter"].astype(np.int64), m["quality"] == 0)
    hold_ns = round(delivered.TICK_HOLD_S * NS)
    declared, lo, hi = (
        align.of_samples(ticks["t_ns"], ticks[name].astype(np.float64), grid, hold_ns)
        for name in ("baseline_kw", "lo_kw", "hi_kw")
    )
    metered = delivered.metered_kw(meters, grid)
    net = delivered.net_kw(metered, declared)
    sold = [(products[name], kw) for name, kw in item.stack.items() if name in products]
    targets = [expected.power_kw(product, kw, samples, grid) for product, kw in sold]
    place = [product.id for product, _ in sold].index(item.product)
    given = delivered.share(net.mean, [target.mean for target in targets], [kw for _, kw in sold])[place]
    product = products[item.product]
    hz = expected.deviation_hz(product, samples, grid).mean + product.nominal_hz
    capacity = _maintained(product, item.sold_kw, declared, lo, hi)
    on = (declared.coverage_frac > 0).astype(np.float64)
    return Seconds(
        grid.edges_ns[:-1], metered.mean, hz, np.full(cells, np.nan), declared.mean, capacity, on,
        capacity / _width_hz(product), lo.mean, hi.mean, given,
    )  # fmt: skip


def _maintained(product: Product, sold_kw: float, declared: Cells, lo: Cells, hi: Cells) -> Floats:
    """Capacity held: what was sold, as far as the fleet's band leaves room beside the baseline."""
    room = {"up": hi.mean - declared.mean, "down": declared.mean - lo.mean}
    ways = ("up", "down") if product.direction == "symmetric" else (product.direction,)
    held = np.minimum.reduce([room[way] for way in ways])
    return np.asarray(np.clip(held, 0.0, sold_kw))


def _width_hz(product: Product) -> float:
    """Deviation from where the response begins to where it is whole."""
    x, y = np.abs(np.array(product.curve_hz)), np.abs(np.array(product.curve_frac))
    idle = x[y == 0]
    return float(x[y == y.max()].min() - (idle.max() if idle.size else 0.0))


def _stamps(t_ns: Ints) -> list[str]:
    plain = np.datetime_as_string(t_ns.astype("datetime64[ns]"), unit="ms").tolist()
    return [stamp.replace("-", "").replace(":", "") for stamp in plain]


def _figures(values: Floats) -> list[str]:
    return ["" if value != value else f"{value:.6f}" for value in values.tolist()]
