"""What a product promises: data, loaded from one TOML file each, checked once, frozen.

The files lie in `droop/catalogue`; a user adds a market with a file of his own (`load_file`). Every figure
that comes from a rule carries its source in the file. How a product is paid is settlement's business; how
much of it is sold is the aggregator's.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from droop.curve import Curve

DIRECTIONS: Final = ("up", "down", "symmetric")
DEADBANDS: Final = ("none", "step", "offset")
CONFIDENCE: Final = ("V", "V2", "M", "D")


class ProductError(ValueError):
    """A product that cannot be used; the message names the file or id, the field and the remedy."""


@dataclass(frozen=True)
class Product:
    """One market product, every figure in the units of its name.

    `curve_hz` are deviations from `nominal_hz`; fractions are of the power sold, positive into the grid.
    `delay_s`, `ramp_pu_s` and `olrt_s` are what our own response does (0, inf and 0: as fast as the
    chargers can); `delay_max_s`, `half_s` and `full_s` are what the market still accepts.
    """

    id: str
    title: str
    area: str
    nominal_hz: float
    direction: Literal["up", "down", "symmetric"]
    curve_hz: tuple[float, ...]
    curve_frac: tuple[float, ...]
    deadband_hz: float = 0.0
    deadband_kind: Literal["none", "step", "offset"] = "none"
    delay_s: float = 0.0
    ramp_pu_s: float = math.inf
    olrt_s: float = 0.0
    delay_max_s: float = 0.0
    half_s: float = 0.0
    full_s: float = 0.0
    hold_s: float = 1.0
    fade_s: float = 5.0
    sustain_min: float = 15.0
    interval_s: int = 900
    score: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    confidence: str = "M"
    notes: tuple[str, ...] = ()
    effective_from: str = ""
    effective_to: str = ""

    @property
    def response(self) -> Curve:
        """The static curve in the form the kernels take."""
        step = self.deadband_hz if self.deadband_kind == "step" else 0.0
        return Curve(np.array(self.curve_hz), np.array(self.curve_frac), step)


def parse(table: Mapping[str, Any], where: str) -> Product:
    """A product from one TOML table; ProductError names `where`, the field and the remedy."""
    known = set(Product.__dataclass_fields__) - {"curve_hz", "curve_frac"} | {"curve"}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise ProductError(f"{where}: unknown field `{key}`{hint}")
    for key in ("id", "title", "area", "nominal_hz", "direction", "curve"):
        if key not in table:
            raise ProductError(f"{where}: field `{key}` is missing")
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items() if key != "curve"}
    for key in ("effective_from", "effective_to"):
        values[key] = str(values.get(key, ""))
    try:
        points = [(float(x), float(y)) for x, y in table["curve"]]
        product = Product(**values, curve_hz=tuple(x for x, _ in points), curve_frac=tuple(y for _, y in points))
    except (TypeError, ValueError) as error:
        raise ProductError(f"{where}: field `curve` takes [[deviation_hz, fraction], ...]: {error}") from error
    _check(product, where)
    return product


def _check(product: Product, where: str) -> None:
    """Refuse what the engine could not honour."""

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise ProductError(f"{where}: {what}")

    for name in ("id", "title", "area"):
        value = getattr(product, name)
        need(isinstance(value, str) and value != "", f"field `{name}` takes a text")
    for name in ("sources", "notes"):
        value = getattr(product, name)
        texts = isinstance(value, tuple) and all(isinstance(text, str) for text in value)
        need(texts, f"field `{name}` takes a list of texts")
    need(isinstance(product.score, Mapping), "field `score` takes a table")
    x, y = np.array(product.curve_hz), np.array(product.curve_frac)
    need(x.size >= 2, "field `curve` takes at least two points")
    need(bool(np.isfinite(x).all() and np.isfinite(y).all()), "field `curve` takes finite numbers")
    need(bool((np.diff(x) > 0).all()), "field `curve`: deviations must ascend")
    need(bool((np.diff(y) <= 0).all()), "field `curve`: response must not rise with frequency")
    need(bool((np.abs(y) <= 1).all()), "field `curve`: fractions lie within -1..1 of the power sold")
    need(product.nominal_hz in (50.0, 60.0), "field `nominal_hz` takes 50 or 60")
    need(product.direction in DIRECTIONS, f"field `direction` takes one of {', '.join(DIRECTIONS)}")
    need(product.deadband_kind in DEADBANDS, f"field `deadband_kind` takes one of {', '.join(DEADBANDS)}")
    need(product.confidence in CONFIDENCE, f"field `confidence` takes one of {', '.join(CONFIDENCE)}")
    need(product.direction != "up" or bool((y >= 0).all()), "direction `up` takes fractions of 0 or more")
    need(product.direction != "down" or bool((y <= 0).all()), "direction `down` takes fractions of 0 or less")
    for name in ("deadband_hz", "delay_s", "olrt_s", "delay_max_s", "half_s", "full_s", "hold_s", "sustain_min"):
        value = getattr(product, name)
        need(_number(value) and math.isfinite(value) and value >= 0, f"field `{name}` takes a number of 0 or more")
    band = product.deadband_hz
    need((band > 0) == (product.deadband_kind != "none"), "field `deadband_kind`: `none` goes with a width of 0 alone")
    inside = np.interp([-band, band], x, y)
    offset = product.deadband_kind == "offset"
    need(not (offset and inside.any()), "field `deadband_hz`: an offset dead band is where `curve` is 0")
    need(_number(product.ramp_pu_s) and product.ramp_pu_s > 0, "field `ramp_pu_s` takes a rate above 0")
    fade = product.fade_s
    need(_number(fade) and math.isfinite(fade) and fade > 0, "field `fade_s` takes a time above 0")
    whole = isinstance(product.interval_s, int) and not isinstance(product.interval_s, bool)
    need(whole and product.interval_s > 0, "field `interval_s` takes whole seconds above 0")


def _number(value: object) -> bool:
    """Whether a TOML value is a number; `true` is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def load_file(path: Path) -> Product:
    """A user's own product file."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProductError(f"{path}: no such product file") from None
    except OSError as error:
        raise ProductError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProductError(f"{path}: not a TOML file: {error}") from error
    return parse(table, str(path))


def _files() -> Iterator[tuple[str, str]]:
    for entry in sorted(resources.files("droop").joinpath("catalogue").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            yield entry.name, entry.read_text(encoding="utf-8")


def catalogue() -> dict[str, Product]:
    """Every product that ships, by id."""
    products = (parse(tomllib.loads(text), f"catalogue/{name}") for name, text in _files())
    return {product.id: product for product in products}


def load(product_id: str) -> Product:
    """A product by id, or by the path of a user's own `.toml` file."""
    if product_id.endswith(".toml"):
        return load_file(Path(product_id))
    products = catalogue()
    if product_id not in products:
        near = difflib.get_close_matches(product_id, products, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(products)}"
        raise ProductError(f"product `{product_id}` is not in the catalogue; {hint}")
    return products[product_id]
