"""What a utility is shown of the fleet, under which names, and how fresh it is; and the settings of its door.

Pure: the worker's live figures and the time are passed in. A figure that is not current is marked invalid and old;
measured values then keep what was last known, promises (headroom, capability) become 0: silence is the unsafe value.
Powers are kW, positive into the grid, like everywhere in the house; the model says so in `units` and `d`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from aggregator.alarms import TABLE
from aggregator.config import ConfigError, UtilityTable
from droop.capability import MINUTES
from droop.watch import Mode
from telemetry.iec61850.control import Category, Limits
from telemetry.iec61850.errors import LinkError
from telemetry.iec61850.mapping import OLD_DATA, VALIDITY_GOOD, VALIDITY_INVALID
from telemetry.iec61850.pins import Tls, expect_loopback, pin, tls
from telemetry.iec61850.utility_model import Kind, Model, Point, Shown, check

SILENT_S: Final = 2.0  # without news for so long the worker counts as lost, as for the API
METER_S: Final = 5.0  # age of a meter reading from which it says nothing of now
LOST: Final = VALIDITY_INVALID | OLD_DATA
WAYS: Final = ("up", "down")


def _defaults() -> Iterator[Point]:
    """Every figure: name, LN.DO, kind, unit, description. Appended to only: what a utility has engineered stays."""
    yield Point("power", "MMXU1.TotW", Kind.MEASURED, "kW", "power of the fleet, metered, positive into the grid")
    yield Point("hz", "MMXU1.Hz", Kind.MEASURED, "Hz", "frequency that is acted on")
    yield Point("requested", "DRCS1.ReqW", Kind.MEASURED, "kW", "power asked of the fleet, baseline included")
    yield Point("baseline", "DRCS1.BaseW", Kind.MEASURED, "kW", "declared baseline")
    yield Point("headroom_up", "DRCS1.HdrUp", Kind.MEASURED, "kW", "more power into the grid, now")
    yield Point("headroom_down", "DRCS1.HdrDn", Kind.MEASURED, "kW", "less power into the grid, now")
    for way, short in (("up", "Up"), ("down", "Dn")):
        for minutes in MINUTES:
            text = f"power {way} that can be sustained for {minutes} minutes"
            yield Point(f"capability_{way}_{minutes}", f"DRCS1.Cap{short}{minutes}", Kind.MEASURED, "kW", text)
    yield Point("mode", "DRCS1.OpMod", Kind.CODE, "", ", ".join(f"{mode.value} {mode.name.lower()}" for mode in Mode))
    yield Point("critical", "CALH1.GrAlm", Kind.FLAG, "", "a critical alarm stands")
    yield Point("warning", "CALH1.GrWrn", Kind.FLAG, "", "a warning stands")
    yield Point("alarms", "CALH1.AlmTxt", Kind.TEXT, "", "codes of the alarms that stand")
    for number, code in enumerate(TABLE, 1):
        yield Point(f"alarm_{code.lower()}", f"GGIO1.Alm{number}", Kind.FLAG, "", code)
    yield Point(
        "setpoint", "DRCC1.OutWSet", Kind.SETPOINT, "kW", "power on top of the products, positive into the grid"
    )


DEFAULTS: Final = tuple(_defaults())


class Door(NamedTuple):
    """The settings of the utility's server."""

    model: Model
    limits: Limits
    tls: Tls | None


def door(table: UtilityTable, most_kw: float, now_ns: int) -> Door:
    """The settings from the configuration. Raises ConfigError for the first thing that cannot be.

    most_kw : largest set-point that the core lets in
    """
    categories = frozenset(int(Category[name.upper()]) for name in table.categories)
    limits = Limits(most_kw, table.step_kw, table.interval_s, table.age_s, categories)
    try:
        return Door(_model(table), limits, _tls(table, now_ns))
    except (LinkError, ValueError) as error:
        raise ConfigError(f"`utility`: {error}") from error


def _model(table: UtilityTable) -> Model:
    known = {point.figure: point for point in DEFAULTS}
    for figure in table.names:
        if figure not in known:
            near = difflib.get_close_matches(figure, known, 1)
            raise ValueError(
                f"names.{figure}: no such figure; {f'did you mean {near[0]}?' if near else ', '.join(known)}"
            )
    points = tuple(point._replace(reference=table.names.get(point.figure, point.reference)) for point in DEFAULTS)
    return check(Model(table.ied, table.device, points, table.control, table.select_s))


def _tls(table: UtilityTable, now_ns: int) -> Tls | None:
    if table.cert is None and table.key is None:
        if table.client:
            raise ValueError("client: certificates mean nothing without TLS; give cert and key")
        expect_loopback(table.host)
        return None
    if table.cert is None or table.key is None:
        raise ValueError(f"{'cert' if table.cert is None else 'key'}: TLS needs both cert and key")
    if table.local_operate:
        raise ValueError("local_operate: with TLS the certificates say who operates; set client.operate instead")
    pins = [pin(client.name, client.cert, client.operate) for client in table.client]
    return tls(table.cert, table.key, pins, now_ns)


def shown(
    live: Mapping[str, Any] | None, before: Mapping[str, Shown], now_ns: int
) -> tuple[dict[str, Shown], float | None]:
    """(every figure, the set-point in force or None where the worker is not heard).

    live : the worker's live figures as they stand in the store; before : what was shown last
    """
    if live is None or not _heard(live, now_ns):
        return dict(_lost(before)), None
    figures = dict(_figures(live, now_ns))
    return figures, float(figures["setpoint"].value)


def _heard(live: Mapping[str, Any], now_ns: int) -> bool:
    return abs(now_ns - int(live["now_ns"])) <= SILENT_S * 1e9


def _lost(before: Mapping[str, Shown]) -> Iterator[tuple[str, Shown]]:
    for point in DEFAULTS:
        last = before.get(point.figure, Shown("" if point.kind is Kind.TEXT else 0.0, 0))
        promise = point.figure.startswith(("headroom", "capability"))
        yield point.figure, Shown(0.0 if promise else last.value, last.t_ns, LOST)


def _figures(live: Mapping[str, Any], now_ns: int) -> Iterator[tuple[str, Shown]]:
    at_ns = int(live["now_ns"])
    yield "power", _measured(live.get("metered_kw"), int(live.get("meter_t_ns") or 0), now_ns, METER_S)
    hertz = _measured(live.get("hz"), int(live["t_ns"]), now_ns, SILENT_S)
    yield "hz", hertz._replace(quality=hertz.quality | VALIDITY_INVALID) if live["quality"] else hertz
    for figure, key in (
        ("requested", "request_kw"), ("baseline", "baseline_kw"), ("headroom_up", "headroom_up_kw"),
        ("headroom_down", "headroom_down_kw"), ("setpoint", "signal_kw"),
    ):  # fmt: skip
        yield figure, _measured(live.get(key), at_ns, now_ns, SILENT_S)
    sustained = live.get("capability") or {}
    for way in WAYS:
        for minutes in MINUTES:
            value = (sustained.get(f"{way}_kw") or {}).get(str(minutes))
            yield f"capability_{way}_{minutes}", _measured(value, at_ns, now_ns, SILENT_S)
    yield "mode", Shown(int(Mode[str(live["mode"]).upper()]), at_ns)
    yield from _alarms(live.get("alarms") or (), at_ns)


def _alarms(standing: Any, at_ns: int) -> Iterator[tuple[str, Shown]]:
    codes = [str(alarm["code"]) for alarm in standing]
    severities = {str(alarm["severity"]) for alarm in standing}
    yield "critical", Shown("critical" in severities, at_ns)
    yield "warning", Shown("warning" in severities, at_ns)
    yield "alarms", Shown(" ".join(codes), at_ns)
    for code in TABLE:
        yield f"alarm_{code.lower()}", Shown(code in codes, at_ns)


def _measured(value: Any, t_ns: int, now_ns: int, age_s: float) -> Shown:
    """A number with its time; invalid where there is none, old besides where it says nothing of now."""
    if value is None:
        return Shown(0.0, max(t_ns, 0), VALIDITY_INVALID)
    return Shown(float(value), max(t_ns, 0), VALIDITY_GOOD if now_ns - t_ns <= age_s * 1e9 else LOST)
