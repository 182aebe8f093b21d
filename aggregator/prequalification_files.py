"""What a test leaves behind: the plan to play, the recording in the Nordic layout, and the verdict.

Nordic TSOs, Technical requirements for FCR, 28 March 2025: CSV in ASCII, comma, decimal points, CRLF, powers in MW,
named `[Resource]_[Service]_[TestType]_[Area]_[Timezone]_[Interval]_[SamplingRate]_[Date].csv`. Other markets get the
same layout with the product's id for the service. The signal that was applied is ApplFreqSig; GridFreq, the grid's
own frequency, is unknown on a test bench and left empty.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from droop.products import Product
from settlement.prequalification import Plan, Recording

SERVICES: Final = {"nordic_fcr_n": "Fcrn", "nordic_fcr_d_up": "FcrdUp", "nordic_fcr_d_down": "FcrdDo"}
LEAD_S: Final = 60.0
TAIL_S: Final = 5.0
PRETTY: Final = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY


def write_plan(path: Path, plan: Plan, start_ns: int) -> None:
    """The plan as a table that `flyball run --trace` plays; of a signal, the same with its values.

    Before it lies rest, in which a line comes up and declares its baseline, and behind it a little more.
    """
    t_s, value = plan.series()
    count, rest = round(LEAD_S * plan.rate_hz), value[0] if plan.input == "frequency" else 0.0
    tail = round(TAIL_S * plan.rate_hz)
    t_s = np.arange(-count, t_s.size + tail) / plan.rate_hz
    value = np.concatenate([np.full(count, rest), value, np.full(tail, value[-1])])
    part = np.full(t_s.size, "rest", object)
    for item, start_s, end_s in plan.spans():
        part[(t_s >= start_s - 1e-7) & (t_s < end_s - 1e-7)] = item.name.replace(",", " ")
    column = "frequency_hz" if plan.input == "frequency" else "signal"
    lines = [f"time_utc,{column},part"]
    lines += [
        f"{_stamp(start_ns, float(at))}Z,{number:.6f},{name}" for at, number, name in zip(t_s, value, part, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def csv_name(product: Product, plan: Plan, start_ns: int, resource: str = "Fleet") -> str:
    """The file's name by the Nordic rule."""
    begin, end = _stamp(start_ns, 0.0), _stamp(start_ns, plan.duration_s)
    interval = f"{_compact(begin)}-{_compact(end)}"
    rate = f"{1000.0 / plan.rate_hz:g}ms"
    fields = (resource, service(product), "-".join(plan.tests), product.area, "UTC", interval, rate, begin[:10])
    return "_".join(re.sub(r"[^A-Za-z0-9.-]", "", field) for field in fields) + ".csv"


def service(product: Product) -> str:
    """What the Nordic files call a product: `Fcrn`, `FcrdUp`, `FcrdDo`; the id of any other."""
    found = [name for prefix, name in SERVICES.items() if product.id.startswith(prefix)]
    return found[-1] if found else product.id


def write_csv(folder: Path, product: Product, plan: Plan, recording: Recording, sold_kw: float, start_ns: int) -> Path:
    """The recording in the Nordic layout; returns where it lies."""
    path, name = folder / csv_name(product, plan, start_ns), service(product)
    lines = [f"DateTime,InsAcPow,GridFreq,ApplFreqSig,CalcBaseline,Cap_{name}"]
    for at, value, power_kw, baseline_kw in zip(*recording, strict=True):
        row = (_stamp(start_ns, float(at)), _mw(power_kw), "", f"{value:.5f}", _mw(baseline_kw), _mw(sold_kw))
        lines.append(",".join(row))
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode("ascii"))
    return path


def write_json(path: Path, document: dict[str, Any]) -> None:
    """The verdict."""
    path.write_bytes(orjson.dumps(document, option=PRETTY) + b"\n")


def _mw(kw: float) -> str:
    return f"{kw / 1e3:.6f}" if np.isfinite(kw) else ""


def _stamp(start_ns: int, at_s: float) -> str:
    """ISO 8601 to the millisecond, without a zone."""
    moment = datetime.fromtimestamp(start_ns // 1_000_000_000, UTC) + timedelta(seconds=at_s)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _compact(stamp: str) -> str:
    return re.sub(r"[-:]", "", stamp[:16])
