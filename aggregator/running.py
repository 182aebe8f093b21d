"""The main job: what `flyball run` is told becomes a run, the run becomes a line, the line a summary.

Composes `supervisor` from a configuration; the summary's keys are those scripts rely on.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aggregator.auth import load_token
from aggregator.compiling import ensure
from aggregator.config import Config, ConfigError, redis_url, redis_url_b
from aggregator.configured import behaviour, core_settings
from aggregator.contracts import CoreSettings
from aggregator.embedded import EmbeddedServer
from aggregator.fleets.composing import LIVE_NS, check_tariff, composed
from aggregator.keys import command_keys
from aggregator.process import Log, Stop
from aggregator.roles import DIGITS, Run, streams
from aggregator.serving import settings
from aggregator.supervisor import Line, newest, roles_of, with_ports
from aggregator.unit import faults_of, named_units
from aggregator.users import acl, address, make_passwords
from aggregator.utility_figures import door
from aggregator.validity import check_valid
from settlement.scores import weighted_score
from telemetry.redis_stream import parse_id
from telemetry.stages import ALIASES
from telemetry.traces import open_trace

# From the measuring unit's first sample to the first tick, generously.
LINE_UP_S: Final = 5.0
# The second server holds the frequency alone.
SECOND_MB: Final = 64
TOKEN: Final = "api.token"  # noqa: S105 - a file's name


def check_trace(trace: Path, nominal_hz: float, overrides: dict[str, Any]) -> float:
    """How long a trace lasts [s]; one that is malformed or of the wrong grid is refused before anything starts.

    Raises TraceError, ConfigError.
    """
    found = open_trace(trace, **overrides)
    if found.nominal_hz != nominal_hz:
        raise ConfigError(
            f"--trace {trace}: a {found.nominal_hz:g} Hz grid, and the product is for {nominal_hz:g} Hz; "
            "choose a product for it"
        )
    t_ns = found.read_all()["t_ns"]
    if not t_ns.size:
        raise ConfigError(f"--trace {trace}: none of its rows can be read; `flyball inspect` says what is in the file")
    return float(t_ns.max() - t_ns.min()) / 1e9


def check_faults(config: Config) -> None:
    """Raises ValueError for a fault that cannot be read, ConfigError for one of a unit that there is not."""
    units = sum(source.simulated for source in config.sources)
    for number in named_units(config.unit.faults):
        faults_of(config.unit.faults, number)
        if not 1 <= number <= max(units, 1):
            raise ConfigError(f"`unit.faults`: unit {number} of {units} simulated ones; see `--units`")


def run(
    config: Config, log: Log, *, trace: Path | None = None, seconds: float | None = None, browser: bool = True,
    trace_overrides: dict[str, Any] | None = None, any_date: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Run the line until stopped; the summary of the run.

    any_date : sell a product although its market does not have it today

    Raises ConfigError, ProductError, TraceError, StartError, EmbeddedError: each one line with a remedy.
    """
    core = core_settings(config)
    if not any_date:
        check_valid([contract.product for contract in core.contracts], time.time_ns())
    if seconds is not None and not 0.0 < seconds < math.inf:
        raise ConfigError(f"--seconds {seconds:g}: give a number above 0, or leave it out to run until stopped")
    check_faults(config)
    # Who comes is found out here for the sake of what is wrong with it: the gateway finds out again.
    composed(config.fleet, behaviour(config.fleet), time.time_ns(), time.time_ns() + LIVE_NS)
    check_tariff(core.tariff, time.time_ns(), time.time_ns())
    if trace is not None:
        lasts_s = check_trace(trace, core.nominal_hz, trace_overrides or {})
        # The unit plays from its own start, the line counts from its first tick: end while it still plays.
        seconds = max(lasts_s - LINE_UP_S, 1.0) if seconds is None else seconds
    # What the API process would refuse is refused here, before anything runs.
    settings(config, "unix:///", "0" * 32, 1.0)
    if config.utility is not None:
        door(config.utility, core.signal_max_kw, time.time_ns())
    config = with_ports(config)
    folder = config.folder / datetime.now(UTC).strftime("run-%Y%m%dT%H%M%S.%f")[:-3]
    folder.mkdir(mode=0o700, parents=True)
    _point_to(folder)
    stop = Stop(guarded=False)
    ensure(log, stop)
    begun_s = time.monotonic()
    given = redis_url(None)
    given_b = redis_url_b(None)
    stores: dict[str, EmbeddedServer] = {}
    try:
        if not given:
            allowed = acl(config.area, make_passwords(folder / "keys"))
            stores["store"] = EmbeddedServer(maxmemory_mb=config.store.maxmemory_mb, users=allowed).start()
            if config.store.paired:
                stores["store_b"] = EmbeddedServer(maxmemory_mb=SECOND_MB, users=allowed).start()
        url = given or stores["store"].url
        url_b = given_b or (stores["store_b"].url if "store_b" in stores else "")
        begin = newest(address(url, folder / "keys", "run"), streams(config.area, config.worker.ingests))
        line = Line(
            Run(
                config, folder, url, core.to_json().decode(), core.nominal_hz,
                str(trace.resolve()) if trace else None, trace_overrides, begin, time.time_ns(), url_b,
            ),
            roles_of(config), log, stores, begun_s=begun_s,
        )  # fmt: skip
        return {**_supervise(line, stop, seconds, browser, core), "folder": str(folder)}
    finally:
        for store in stores.values():
            store.stop()


def _point_to(folder: Path) -> None:
    """`latest` beside the runs' folders names the newest."""
    link = folder.parent / f".latest-{os.getpid()}"
    with contextlib.suppress(OSError):  # a file system without links lacks a convenience
        link.symlink_to(folder.name)
        link.replace(folder.parent / "latest")


def _supervise(line: Line, stop: Stop, seconds: float | None, browser: bool, core: CoreSettings) -> dict[str, Any]:
    line.run.write()
    command_keys(line.run.folder / "keys")
    load_token(line.run.folder / "keys" / TOKEN)
    line.start()
    api = line.run.config.api
    page = f"{'https' if api.cert else 'http'}://{api.host}:{api.port}/"
    line.log.info("dashboard", url=page, token=str(line.run.folder / "keys" / TOKEN))
    if browser:
        threading.Thread(target=_open, args=(page, stop), daemon=True).start()
    try:
        line.watch(stop, seconds)
    finally:
        line.stop()
    return summarise(line.summary(), core, 1.0 / line.run.config.unit.rate_hz)


def _open(page: str, stop: Stop) -> None:
    """Open the page once it answers; a machine without a browser loses nothing."""
    while not stop:
        try:
            with urllib.request.urlopen(page, timeout=1):  # noqa: S310 - our own address
                break
        except urllib.error.HTTPError:
            break
        except OSError:
            stop.wait(0.2)
    if not stop and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.uname().sysname == "Darwin"):
        webbrowser.open(page)


def summarise(parts: dict[str, Any], core: CoreSettings, period_s: float = math.inf) -> dict[str, Any]:
    """The summary's keys from the processes' counters, those of lives that ended early included.

    period_s : of `unit.rate_hz`; commands that leave more than that after their sample's stamp are late
    """
    past: dict[str, list[dict[str, Any]]] = parts.get("past", {})
    lives = [*past.get("worker", []), parts["worker"]]
    workers = _last_of_each(lives)
    gateways = [*past.get("gateway", []), parts["gateway"]]
    ingests = [life for one in _ingests(parts).values() for life in one]
    ticked = int(_sum(workers, "ticked"))
    samples_in = published(parts, workers)
    rejected = _count(workers, "rejected")
    for reason, count in _count(gateways, "refused").items():
        rejected[f"command_{reason}"] = count
    settles = [*past.get("settle", []), parts.get("settle", {})]
    stalled = ["JOURNAL_STALLED"] if _sum(settles, "stalls") else []
    score, note, statements = _score(parts["statements"])
    return {
        "samples_in": samples_in,
        "samples_lost": samples_in - ticked,
        "samples_late": sum(_late(life, period_s) for life in lives),
        "ticks": _sum(workers, "ticks"),
        "commands": _sum(workers, "commands"),
        "rejected": rejected,
        "latency_ms": _latency(lives),
        "clock": parts["worker"].get("clock", {}),
        "requested_kwh": _sum(workers, "requested_kwh"),
        "delivered_kwh": _sum(workers, "delivered_kwh"),
        "unserved_kwh": _sum(workers, "unserved_kwh"),
        "score": score,
        "score_note": note,
        "alarms": list(dict.fromkeys(code for life in [*workers, *ingests] for code in life.get("alarms", [])))
        + stalled,
        "modes": _modes(workers),
        "sources": _sources(parts),
        "rss_mb": parts["rss_mb"],
        "warm_start_s": parts["warm_start_s"],
        "max_sum_error_kw": max(life.get("max_sum_error_kw", 0.0) for life in workers),
        "bound_violations": _sum(workers, "bound_violations"),
        "trips": _sum(workers, "trips"),
        "scheduling": parts["worker"].get("scheduling", ""),
        "restarts": parts.get("restarts", {}),
        "products": [{"id": c.product.id, "sold_kw": c.sold_kw} for c in core.contracts],
        "statements": statements,
    }


def _modes(lives: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By product how long each energy mode was on, over all lives."""
    found: dict[str, Counter[str]] = {}
    for life in lives:
        for product, seconds in life.get("modes", {}).items():
            found.setdefault(product, Counter()).update(seconds)
    return {product: dict(seconds) for product, seconds in found.items()}


def _ingests(parts: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By name, the lives of each ingest."""
    past: dict[str, list[dict[str, Any]]] = parts.get("past", {})
    roles = [role for role in parts if role.rstrip(DIGITS) == "ingest"]
    return {f"i{role.removeprefix('ingest') or 1}": [*past.get(role, []), parts[role]] for role in sorted(roles)}


def _sources(parts: dict[str, Any]) -> list[dict[str, Any]]:
    """What the summary says of the sources; of several ingests each tells its own."""
    lives = _ingests(parts)
    alone = len(lives) == 1
    return [
        _told(source) | ({} if alone else {"ingest": name})
        for name, (*_, last) in lives.items()
        for source in last.get("sources", [])
    ]


def published(parts: dict[str, Any], workers: list[dict[str, Any]]) -> int:
    """Samples published from the first one ticked; an ingest that died may have said less than was ticked of it."""
    lives = _ingests(parts)
    if len(lives) == 1:
        return max(int(_sum(workers, "ticked")), _published(next(iter(lives.values())), workers))
    count = 0
    for name, ingests in lives.items():
        read = [worker.get("ingests", {}).get(name, {}) for worker in workers]
        count += max(int(_sum(read, "ticked")), _published(ingests, read))
    return count


def _told(source: dict[str, Any]) -> dict[str, Any]:
    """What the summary says of a source: who it is, how much of it was acted on, what of it was refused."""
    return {name: source.get(name) for name in ("name", "address", "decided", "rejected", "clock")}


def _last_of_each(lives: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lives whose totals no later one has taken over."""
    taken_over = {life.get("continues") for life in lives if life.get("continues")}
    return [life for life in lives if life.get("epoch") not in taken_over]


def _late(life: dict[str, Any], period_s: float) -> int:
    """Samples whose commands took longer than a period, or than the next bound that is counted by."""
    found = life.get("histograms", {}).get("total", {"le": {}, "count": 0})
    within = [count for bound, count in found["le"].items() if float(bound) >= period_s]
    return int(found["count"] - within[0]) if within else 0


def _published(ingests: list[dict[str, Any]], workers: list[dict[str, Any]]) -> int:
    """Samples published from the first one ticked: entries and samples are one to one, so counters tell."""
    first_id = next((life["first_id"] for life in workers if life.get("first_id")), None)
    if first_id is None:
        return 0
    epoch, counter = parse_id(first_id)
    count = 0
    for life in ingests:
        if life.get("epoch", 0) >= epoch:
            count += int(life["published"]) - (counter - 1 if life["epoch"] == epoch else 0)
    return count


def _sum(lives: list[dict[str, Any]], name: str) -> Any:
    return sum(life.get(name, 0) for life in lives)


def _count(lives: list[dict[str, Any]], name: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for life in lives:
        total.update(life.get(name, {}))
    return dict(total)


def _latency(lives: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Figures of each stage; of several lives the worst."""
    worst: dict[str, dict[str, float]] = {}
    for life in lives:
        for stage, found in life.get("latency_ms", {}).items():
            kept = worst.setdefault(stage, {})
            for name, value in found.items():
                before = kept.get(name, math.nan)
                kept[name] = before if math.isnan(value) or value < before else value
    return worst | {old: worst[new] for old, new in ALIASES.items() if new in worst}


def _score(rows: list[dict[str, Any]]) -> tuple[float | None, str, list[dict[str, Any]]]:
    """The run's score: the intervals' scores weighted by the time each covers."""
    mean, note = weighted_score(
        (row.get("score"), float(row.get("coverage_frac") or 0.0), str(row.get("score_note") or "")) for row in rows
    )
    partial = sum(row.get("score") is not None and not row.get("final", True) for row in rows)
    return mean, note + (f"; {partial} not complete" if partial else ""), rows
