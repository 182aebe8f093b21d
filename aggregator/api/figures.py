"""From what was last read to one Status: ages, silence, and what may still be shown.

Pure: no I/O and no clock, time is passed in. A worker is silent when its record has stopped changing, judged by
our own monotonic clock, so that neither a wrong clock nor a replayed trace can make a dead worker look alive.
Silence is the unsafe value: measurements become null, promises become 0.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from aggregator.api.models import Ages, Alarm, Live, Product, Source, Statement, Status
from droop import products

Row = TypeVar("Row", Alarm, Source)

NS: Final = 1_000_000_000
INGESTS: Final = ("ingest", "ingest2", "ingest3", "ingest4")  # of i1 to i4
MEASURED: Final = (
    "hz",
    "request_kw",
    "response_kw",
    "dealt_kw",
    "commanded_kw",
    "unserved_kw",
    "metered_kw",
    "delivered_kw",
    "signal_kw",
)
PROMISED: Final = ("headroom_up_kw", "headroom_down_kw")


@dataclass(slots=True)
class Heard:
    """When a key was last seen to change, by two clocks.

    `mono_s` is the last change we witnessed. The first reading is no witness: the key may be a dead process'
    last word, so it counts as old as its own stamp says.
    """

    data: bytes | None = None
    first_age_s: float = 0.0
    mono_s: float = 0.0
    utc_ns: int = 0

    def update(self, data: bytes | None, stamp_ns: int | None, now_ns: int, mono_s: float) -> bool:
        """Note a reading; True when it is news. stamp_ns : the record's own time, None when it carries none"""
        if data is None or data == self.data:
            return False
        first = self.data is None
        self.first_age_s = max(0.0, (now_ns - stamp_ns) / NS) if first and stamp_ns else 0.0
        self.data, self.mono_s = data, mono_s
        self.utc_ns = now_ns - int(self.first_age_s * NS)
        return True

    def age_s(self, mono_s: float) -> float | None:
        """Seconds since the last change; None when never heard."""
        return None if self.data is None else self.first_age_s + max(0.0, mono_s - self.mono_s)


@dataclass(slots=True)
class Reading:
    """Everything the poller knows, replaced piece by piece."""

    started_ns: int
    live: Live | None = None
    live_heard: Heard = field(default_factory=Heard)
    live_fault: Alarm | None = None  # the record was there but could not be read
    store_fault: Alarm | None = None
    view_heard: Heard = field(default_factory=Heard)
    processes: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes_heard: dict[str, Heard] = field(default_factory=dict)
    # process -> stage -> what `telemetry.latency.Histogram.cumulative` says; for a scraper, not for every client
    histograms: dict[str, dict[str, Any]] = field(default_factory=dict)
    statement: Statement | None = None
    statements: int = 0


def compose(r: Reading, area: str, now_ns: int, mono_s: float, silent_s: float, process_silent_s: float) -> Status:
    """The status at `now_ns`."""
    live = r.live or Live(t_ns=0, area=area)
    age_s = r.live_heard.age_s(mono_s)
    silent = age_s is None or age_s > silent_s
    alarms = [*live.alarms] if not silent else []
    fields: dict[str, Any] = live.model_dump(exclude={"alarms", "products"})
    fields["hz"] = usable_hz(live, silent_s) if live.quality == [] else live.hz
    if r.store_fault is not None:
        alarms, fields["mode"] = [r.store_fault], "store lost"
    elif silent:
        alarms, fields["mode"] = [_silence(r, age_s)], "silent"
    if r.live_fault is not None and r.store_fault is None:
        alarms.append(r.live_fault)
    stale = silent or r.store_fault is not None
    if stale:
        _withdraw(fields)
    else:
        alarms += _silent_processes(r, mono_s, process_silent_s) + _of_sources(r, mono_s, process_silent_s)
        alarms += _stalled_journal(r.processes.get("settle", {}))
        alarms += _stalled_sealing(r.processes.get("settle", {}))
    ages = Ages(
        live_s=_tidy(age_s),
        fleetview_s=_tidy(r.view_heard.age_s(mono_s)),
        processes_s={role: _tidy(heard.age_s(mono_s)) or 0.0 for role, heard in r.processes_heard.items()},
    )
    fields |= {  # after the worker's own keys: no writer can overrule what we say of it
        "products": [_described(product, stale) for product in live.products],
        "alarms": sorted(alarms, key=lambda alarm: (alarm.severity != "critical", alarm.since_ns)),
        "now_ns": now_ns,
        "as_of_ns": as_of_ns(live),
        "sample_age_s": _tidy(sample_age_s(live)),
        "stale": stale,
        "ages": ages,
        "processes": r.processes,
        "sources": _sources(r, mono_s, process_silent_s),
        "statement": r.statement,
        "statements": r.statements,
    }
    return Status(**fields)


def as_of_ns(live: Live) -> int:
    """When the worker wrote; a writer that does not say is taken to write with each sample."""
    return live.now_ns or live.rx_ns or live.t_ns


def sample_age_s(live: Live) -> float | None:
    """How old the newest sample was when the worker wrote; None before the first."""
    return max(0.0, (as_of_ns(live) - live.rx_ns) / NS) if live.rx_ns else None


def usable_hz(live: Live, limit_s: float) -> float | None:
    """The frequency of now: a rejected sample is no measurement, and an old one is no longer one."""
    return None if live.quality or (sample_age_s(live) or 0.0) > limit_s else live.hz


def _tidy(age_s: float | None) -> float | None:
    return None if age_s is None else round(age_s, 3)


def _withdraw(fields: dict[str, Any]) -> None:
    """Take back what only a living worker can say."""
    fields.update(dict.fromkeys(MEASURED))
    fields.update(dict.fromkeys(PROMISED, 0.0))
    fields["quality"] = []
    fields["unserved_by_reason"] = {}
    fields["withheld_kw"] = {}
    fields["reserved"], fields["modes"] = {}, {}
    for side in ("up_kw", "down_kw"):
        fields["capability"][side] = dict.fromkeys(fields["capability"][side] or ("15", "30", "60"), 0.0)


def _silence(r: Reading, age_s: float | None) -> Alarm:
    if age_s is None:
        text = (
            "No figures from the worker yet: it is starting (the first start of a version compiles for half a minute) "
            "or does not run. Until then no power can be promised."
        )
        return Alarm(code="WORKER_SILENT", severity="critical", since_ns=r.started_ns, text=text)
    text = "The worker is silent: its figures are withdrawn. Check the worker process; chargers fall back on their own."
    return Alarm(code="WORKER_SILENT", severity="critical", since_ns=r.live_heard.utc_ns, text=text)


def _silent_processes(r: Reading, mono_s: float, limit_s: float) -> list[Alarm]:
    """A warning for each process whose counters stand still; the worker has its own alarm."""
    return [
        Alarm(
            code=f"{role.upper()}_SILENT",
            severity="warning",
            since_ns=heard.utc_ns,
            text=f"Process {role} has stopped reporting. Check that it runs.",
        )
        for role, heard in r.processes_heard.items()
        if role != "worker" and (heard.age_s(mono_s) or 0.0) > limit_s
    ]


def _stalled_journal(settle: dict[str, Any]) -> list[Alarm]:
    """The disk does not take the journal: what the settlement process says of it."""
    since_ns = settle.get("stalled_since_ns")
    if not isinstance(since_ns, int) or since_ns <= 0:
        return []
    text = (
        f"The journal cannot be written ({settle.get('stalled_why', '')}). Entries wait in the stream, which holds "
        "minutes: make room or mend the folder; writing goes on by itself."
    )
    return [Alarm(code="JOURNAL_STALLED", severity="critical", since_ns=since_ns, text=text)]


def _stalled_sealing(settle: dict[str, Any]) -> list[Alarm]:
    """No evidence is made any more, or it lacks rows: what the settlement process says of it."""
    since_ns = settle.get("sealing_since_ns")
    if not isinstance(since_ns, int) or since_ns <= 0:
        return []
    text = (
        f"Sealing has stopped ({settle.get('sealing_why', '')}). Statements go on; `flyball seal` can make evidence of "
        "the journal later."
    )
    return [Alarm(code="SEALING_STALLED", severity="critical", since_ns=since_ns, text=text)]


def _ingests(r: Reading, mono_s: float, limit_s: float) -> dict[str, dict[str, Any]]:
    """What the ingest processes say of themselves, by name; a silent one says nothing."""
    found = {}
    for number, role in enumerate(INGESTS, 1):
        heard = r.processes_heard.get(role)
        if heard and (heard.age_s(mono_s) or 0.0) <= limit_s:
            found[f"i{number}"] = r.processes.get(role, {})
    return found


def _sources(r: Reading, mono_s: float, limit_s: float) -> list[Source]:
    """The sources of frequency; a silent ingest process has none that can be vouched for.

    Where the worker follows several ingests they stand first, and each one's sources bear its name: only those of the
    ingest that is used are.
    """
    several = _read(Source, (r.live.model_extra or {}).get("ingests") if r.live else None)
    used = {one.name for one in several if one.used}
    found = several
    for name, told in _ingests(r, mono_s, limit_s).items():
        rows = _read(Source, told.get("sources"))
        if several:
            rows = [s.model_copy(update={"name": f"{name}/{s.name}", "used": s.used and name in used}) for s in rows]
        found = found + rows
    return found


def _of_sources(r: Reading, mono_s: float, limit_s: float) -> list[Alarm]:
    """The alarms that stand in the ingest processes."""
    found: dict[str, Alarm] = {}
    for told in _ingests(r, mono_s, limit_s).values():
        for alarm in _read(Alarm, told.get("standing")):
            found.setdefault(alarm.code, alarm)
    return list(found.values())


def _read(model: type[Row], rows: Any) -> list[Row]:
    """Rows of another process' counters; what is no such row is passed over: its counters stay visible as they are."""
    found: list[Row] = []
    for row in rows if isinstance(rows, list) else []:
        with contextlib.suppress(ValidationError):
            found.append(model.model_validate(row))
    return found


def _described(product: Product, stale: bool) -> Product:
    """The product with what its curve promises, for charts and tables."""
    known = {**product.model_dump(exclude_none=True), **_facts(product.id)}
    return Product(**{**known, "fraction": None if stale else product.fraction})


@lru_cache(maxsize=64)
def _facts(product_id: str) -> dict[str, Any]:
    """Title, dead band and full activation of a catalogue product; nothing for one we do not know."""
    try:
        product = products.load(product_id)
    except (OSError, ValueError):
        return {}
    full_hz = max((abs(hz) for hz in product.curve_hz), default=None)
    return {"title": product.title, "deadband_hz": product.deadband_hz, "full_hz": full_hz}
