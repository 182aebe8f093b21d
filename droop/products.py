"""What a product promises: data, loaded from one TOML file each, checked once, frozen.

The files lie in `droop/catalogue`; a user adds a market with a file of his own (`load_file`). Every figure
that comes from a rule carries its source in the file. How a product is paid is settlement's business; how
much of it is sold is the aggregator's.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from droop import tomlfiles
from droop.curve import Curve
from droop.promises import Freedoms, Market, Protection, Reservoir, Sampling, Trigger
from droop.tables import TableError, record, table

CATALOGUE: Final = "catalogue"
CONFIDENCE: Final = ("V", "V2", "M", "D")
NOT_NEGATIVE: Final = (
    "signal_s", "deadband_hz", "insensitivity_hz", "delay_s", "olrt_s", "delay_max_s", "half_s", "full_s", "hold_s",
    "sustain_min", "ramp_min_pu_s",
)  # fmt: skip
# A curve has no vertical: a trigger's edge is this wide, far below what any instrument resolves.
EDGE_HZ: Final = 1e-9


class ProductError(ValueError):
    """A product that cannot be used; the message names the file or id, the field and the remedy."""


class ProductDateError(ProductError):
    """A product on a day on which its market does not have it; the message names the one that it has, if known."""


@dataclass(frozen=True)
class Product:
    """One market product, every figure in the units of its name.

    `curve_hz` are deviations from `nominal_hz`, of a product on a signal the signal's own values; fractions are of the
    power sold, positive into the grid. `delay_s`, `ramp_pu_s` and `olrt_s` are what our own response does (0, inf and
    0: as fast as the chargers can), and so is `insensitivity_hz` (0: every change); `delay_max_s`, `half_s`, `full_s`
    and `ramp_min_pu_s` (0: the market names none) are what the market still accepts.
    `marks` names the figures whose confidence is not that of the whole.

    A product is sold from `effective_from` on and until the day before `effective_to`, days of its market's zone;
    `successor` is the product that takes over then. `aliases` are other names it is asked for by.
    """

    id: str
    title: str
    area: str
    nominal_hz: float
    direction: Literal["up", "down", "symmetric"]
    curve_hz: tuple[float, ...]
    curve_frac: tuple[float, ...]
    input: Literal["frequency", "signal"] = "frequency"
    signal_s: float = 0.0
    deadband_hz: float = 0.0
    deadband_kind: Literal["none", "step", "offset"] = "none"
    insensitivity_hz: float = 0.0
    delay_s: float = 0.0
    ramp_pu_s: float = math.inf
    ramp_min_pu_s: float = 0.0
    olrt_s: float = 0.0
    delay_max_s: float = 0.0
    half_s: float = 0.0
    full_s: float = 0.0
    hold_s: float = 1.0
    fade_s: float = 5.0
    sustain_min: float = 15.0
    interval_s: int = 900
    trigger: Trigger | None = None
    reservoir: Reservoir | None = None
    freedoms: Freedoms = field(default_factory=Freedoms)
    protection: Protection | None = None
    market: Market = field(default_factory=Market)
    sampling: Sampling = field(default_factory=Sampling)
    score: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, Any] = field(default_factory=dict)
    availability: Mapping[str, Any] = field(default_factory=dict)
    settlement: Mapping[str, Any] = field(default_factory=dict)
    penalty: Mapping[str, Any] = field(default_factory=dict)
    prequalification: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    confidence: Literal["V", "V2", "M", "D"] = "M"
    marks: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    effective_from: str = ""
    effective_to: str = ""
    successor: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def response(self) -> Curve:
        """The static curve in the form the kernels take."""
        step = self.deadband_hz if self.deadband_kind == "step" else 0.0
        return Curve(np.array(self.curve_hz), np.array(self.curve_frac), step)

    def mark(self, figure: str) -> str:
        """Confidence of one figure, named as in the file (`score.k`): its own mark, its table's, or the whole's."""
        parts = figure.split(".")
        names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        return next((self.marks[name] for name in names if name in self.marks), self.confidence)


def parse(table: Mapping[str, Any], where: str) -> Product:
    """A product from one TOML table; ProductError names `where`, the field and the remedy."""
    for key in ("curve_hz", "curve_frac"):
        if key in table:
            raise ProductError(f"{where}: unknown field `{key}`; did you mean `curve`?")
    values = dict(table)
    try:
        x_hz, y_frac = _points(values.pop("curve", None), values)
        for key in ("effective_from", "effective_to"):
            values[key] = _date(values.get(key, ""), key)
        product = record(Product, values | {"curve_hz": x_hz, "curve_frac": y_frac})
        _check(product)
    except TableError as error:
        raise ProductError(f"{where}: {error}") from error
    return product


def to_table(product: Product) -> dict[str, Any]:
    """The product as the table that `parse` takes."""
    plain = table(product)
    plain["curve"] = [list(point) for point in zip(plain.pop("curve_hz"), plain.pop("curve_frac"), strict=True)]
    return plain


def _points(curve: Any, values: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """The curve's points; a product with a trigger and none of its own is all or nothing at the threshold."""
    if curve is None:
        trigger = values.get("trigger")
        if not isinstance(trigger, Mapping):
            raise TableError("field `curve` is missing")
        curve = _step(record(Trigger, trigger, "trigger."), values.get("nominal_hz"), values.get("direction"))
    try:
        points = [(float(x), float(y)) for x, y in curve]
    except (TypeError, ValueError) as error:
        raise TableError(f"field `curve` takes [[deviation_hz, fraction], ...]: {error}") from error
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        raise TableError("field `curve` takes finite numbers")
    return [x for x, _ in points], [y for _, y in points]


def _step(trigger: Trigger, nominal_hz: Any, direction: Any) -> list[tuple[float, float]]:
    """All at the threshold, or one equal step at each of several."""
    if not isinstance(nominal_hz, int | float) or direction not in ("up", "down"):
        raise TableError("field `trigger` goes with a `nominal_hz` and a `direction` of up or down")
    sign = -1.0 if direction == "up" else 1.0
    # The last step first passed is the one furthest out; mirrored, so that both directions share one loop.
    places = sorted(sign * (hz - nominal_hz) for hz in (trigger.steps_hz or (trigger.hz,)))
    points: list[tuple[float, float]] = []
    for k, place in enumerate(places):
        points += [(sign * (place - EDGE_HZ), k / len(places)), (sign * place, (k + 1) / len(places))]
    return sorted((x, -sign * y) for x, y in points)


def _date(value: Any, name: str) -> str:
    """An ISO date, or nothing."""
    text = str(value) if isinstance(value, date | str) else None
    try:
        if text is None or (text and date.fromisoformat(text).isoformat() != text):
            raise ValueError
    except ValueError:
        raise TableError(f"field `{name}` takes a date as 2026-01-31, not {value!r}") from None
    return text


def _check(product: Product) -> None:
    """Refuse what the engine could not honour."""

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise TableError(what)

    for name in ("id", "title", "area"):
        need(getattr(product, name) != "", f"field `{name}` takes a text")
    x, y = np.array(product.curve_hz), np.array(product.curve_frac)
    need(x.size >= 2, "field `curve` takes at least two points")
    need(bool((np.diff(x) > 0).all()), "field `curve`: deviations must ascend")
    if product.input == "frequency":
        need(bool((np.diff(y) <= 0).all()), "field `curve`: response must not rise with frequency")
    else:
        need(bool((np.diff(y) >= 0).all()), "field `curve`: response must not fall where the signal rises")
        need(product.signal_s > 0, "field `signal_s` takes the time between two set-points, above 0")
    need(bool((np.abs(y) <= 1).all()), "field `curve`: fractions lie within -1..1 of the power sold")
    need(product.nominal_hz in (50.0, 60.0), "field `nominal_hz` takes 50 or 60")
    need(product.direction != "up" or bool((y >= 0).all()), "direction `up` takes fractions of 0 or more")
    need(product.direction != "down" or bool((y <= 0).all()), "direction `down` takes fractions of 0 or less")
    for name in NOT_NEGATIVE:
        value = getattr(product, name)
        need(math.isfinite(value) and value >= 0, f"field `{name}` takes a number of 0 or more")
    band = product.deadband_hz
    need((band > 0) == (product.deadband_kind != "none"), "field `deadband_kind`: `none` goes with a width of 0 alone")
    inside = np.interp([-band, band], x, y)
    offset = product.deadband_kind == "offset"
    need(not (offset and inside.any()), "field `deadband_hz`: an offset dead band is where `curve` is 0")
    straight = x.size == 2 and product.input == "frequency"
    rules = product.reservoir
    managed = rules is not None and product.trigger is None and (rules.nem is not None or rules.aem is not None)
    need(not managed or straight, "field `reservoir`: `nem` and `aem` go with a curve of two points on the frequency")
    need(product.ramp_pu_s > 0, "field `ramp_pu_s` takes a rate above 0")
    need(product.ramp_min_pu_s <= product.ramp_pu_s, "field `ramp_pu_s` must not be below `ramp_min_pu_s`")
    if product.trigger is not None:
        _check_trigger(product, product.trigger, need)
    need(math.isfinite(product.fade_s) and product.fade_s > 0, "field `fade_s` takes a time above 0")
    need(product.interval_s > 0, "field `interval_s` takes whole seconds above 0")
    first, last = product.effective_from, product.effective_to
    need(not (first and last) or first < last, "field `effective_to` must lie after `effective_from`")
    known = set(Product.__dataclass_fields__)
    for name, mark in product.marks.items():
        need(name.split(".")[0] in known, f"field `marks.{name}` names no field of a product")
        need(mark in CONFIDENCE, f"field `marks.{name}` takes one of {', '.join(CONFIDENCE)}")


def _check_trigger(product: Product, trigger: Trigger, need: Callable[[bool, str], None]) -> None:
    """Refuse a trigger that could never be pulled, or that would let go where it was pulled."""
    need(product.input == "frequency", "field `trigger` goes with `input` frequency")
    need(product.direction != "symmetric", "field `trigger` goes with a `direction` of up or down")
    side = -1.0 if product.direction == "down" else 1.0
    places = trigger.steps_hz or (trigger.hz,)
    beyond = all(side * (product.nominal_hz - hz) > 0 for hz in places)
    need(beyond, "field `trigger.hz` lies below nominal with direction `up`, above it with `down`")
    last = max(side * hz for hz in places)
    need(
        trigger.release_hz == 0 or side * trigger.release_hz >= last,
        "field `trigger.release_hz` lies between nominal and the first threshold, or is 0",
    )
    need(
        trigger.hold_s > 0 or trigger.release_hz > 0,
        "field `trigger` takes a `hold_s` above 0 or a `release_hz`: without either it lets go as it is pulled",
    )


def load_file(path: Path) -> Product:
    """A user's own product file."""
    try:
        table = tomlfiles.own(path, "product")
    except TableError as error:
        raise ProductError(str(error)) from error
    return parse(table, str(path))


def _of_catalogue(name: str) -> Product:
    return parse(tomlfiles.shipped(CATALOGUE, name), f"{CATALOGUE}/{name}.toml")


def catalogue() -> dict[str, Product]:
    """Every product that ships, by id; each file is named by it."""
    return {name: _of_catalogue(name) for name in tomlfiles.names(CATALOGUE)}


def load(product_id: str, on: date | None = None) -> Product:
    """A product by id or alias, or by the path of a user's own `.toml` file.

    on : a day on which it is to be valid; None: any

    Raises ProductError, ProductDateError.
    """
    product = load_file(Path(product_id)) if product_id.endswith(".toml") else _shipped(product_id)
    if on is not None:
        check_date(product, on)
    return product


def _shipped(name: str) -> Product:
    """One of the catalogue; small and capital letters, dashes and blanks are all the same."""
    plain = _plain(name)
    if plain in tomlfiles.names(CATALOGUE):
        return _of_catalogue(plain)
    products = catalogue()
    known = {alias: product for product in products.values() for alias in (product.id, *product.aliases)}
    if plain in known:
        return known[plain]
    near = [other for other in products if plain and other.startswith(f"{plain}_")] or [
        known[other].id for other in difflib.get_close_matches(plain, known, 1)
    ]
    hint = f"did you mean {' or '.join(f'`{other}`' for other in near)}?" if near else f"known: {', '.join(products)}"
    raise ProductError(f"product `{name}` is not in the catalogue; {hint}")


def _plain(name: str) -> str:
    return "_".join(name.lower().replace("-", " ").replace("_", " ").split())


def valid_on(product: Product, day: date) -> bool:
    """Whether a product is sold on a day of its market's zone."""
    text = day.isoformat()
    return product.effective_from <= text and (not product.effective_to or text < product.effective_to)


def check_date(product: Product, day: date) -> None:
    """Raises ProductDateError for a day on which the product is not sold, with the product that is."""
    if valid_on(product, day):
        return
    text = day.isoformat()
    if text < product.effective_from:
        others = [other.id for other in catalogue().values() if other.successor == product.id and valid_on(other, day)]
        when = f"is valid from {product.effective_from} on"
    else:
        others = [product.successor] if product.successor else []
        when = f"was valid until {product.effective_to}, that day excluded"
    remedy = f"take {' or '.join(f'`{other}`' for other in others)}" if others else "the catalogue has no other for it"
    raise ProductDateError(f"product `{product.id}` {when}, and not on {text}; {remedy}")
