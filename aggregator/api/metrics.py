"""The same figures in Prometheus' exposition format, read at scrape time from the last poll.

Of the fleet, and of every process with a label `process`: they write their counters and histograms to the store once
a second, and this one endpoint shows them. A listener in each process would put a door and a second thread into the
one that ticks, and would vanish with a process that dies, where here its age goes on growing; a scrape needs one
target, whatever runs where.

No global registry and no counters of our own: a worker restart shows as a counter reset, which Prometheus expects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from aggregator.api.feed import Feed
from aggregator.api.models import Status

GAUGES = {
    "hz": ("frequency_hertz", "Grid frequency as used by the engine"),
    "request_kw": ("request_kilowatts", "Power asked of the fleet, baseline included"),
    "response_kw": ("response_kilowatts", "Power asked relative to the declared baseline"),
    "delivered_kw": ("delivered_kilowatts", "Metered power relative to the declared baseline"),
    "baseline_kw": ("baseline_kilowatts", "Declared baseline"),
    "unserved_kw": ("unserved_kilowatts", "Part of the request that no vehicle could take"),
}


class FleetCollector(Collector):
    """Turns a Status into metric families."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def describe(self) -> list[Metric]:
        """Nothing ahead of time: products and stages are known at run time only."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families. A figure that is not known now is absent, not 0."""
        status = self._feed.status()
        for field, (name, text) in GAUGES.items():
            value = getattr(status, field)
            if value is not None:
                yield GaugeMetricFamily(f"flyball_{name}", text, value=value)
        yield GaugeMetricFamily("flyball_stale", "1 when the figures are not current", value=float(status.stale))
        if status.ages.live_s is not None:
            yield GaugeMetricFamily("flyball_live_age_seconds", "Since the worker last wrote", value=status.ages.live_s)
        yield from _promises(status)
        yield from _labelled(status)
        yield from _sources(status)
        for name, value in (("ticks", status.ticks), ("commands", status.commands)):
            yield CounterMetricFamily(f"flyball_{name}", f"Worker's {name}", value=value)
        events = CounterMetricFamily("flyball_api_events", "Events of the API process", labels=["event"])
        for name, count in sorted(self._feed.counters.items()):
            events.add_metric([name], count)
        yield events
        yield from _processes(status)
        yield _stages(self._feed.reading.histograms)


def _promises(status: Status) -> Iterator[Metric]:
    head = GaugeMetricFamily("flyball_headroom_kilowatts", "From dealt power to the bounds", labels=["direction"])
    head.add_metric(["up"], status.headroom_up_kw)
    head.add_metric(["down"], status.headroom_down_kw)
    yield head
    capable = GaugeMetricFamily("flyball_capability_kilowatts", "Sustainable power", labels=["direction", "minutes"])
    for direction, table in (("up", status.capability.up_kw), ("down", status.capability.down_kw)):
        for minutes, kw in table.items():
            capable.add_metric([direction, minutes], kw)
    yield capable
    withheld = GaugeMetricFamily(
        "flyball_withheld_kilowatts", "Rated power that limits take now", labels=["reason", "direction"]
    )
    for reason, taken in sorted(status.withheld_kw.items()):
        withheld.add_metric([reason, "up"], taken.up)
        withheld.add_metric([reason, "down"], taken.down)
    yield withheld
    yield from _modes(status)


def _modes(status: Status) -> Iterator[Metric]:
    """The products' energy rules."""
    lasted = CounterMetricFamily(
        "flyball_energy_mode_seconds", "Time that a product's energy mode was on", labels=["product", "mode"]
    )
    for product, modes in sorted(status.modes.items()):
        for mode, seconds in modes.seconds.items():
            lasted.add_metric([product, mode], seconds)
    yield lasted
    maintained = GaugeMetricFamily(
        "flyball_maintained_kilowatts", "Capacity of a product maintained now", labels=["product"]
    )
    for product, kw in sorted(status.reserved.get("maintained_kw", {}).items()):
        maintained.add_metric([product], kw)
    yield maintained


def _labelled(status: Status) -> Iterator[Metric]:
    vehicles = GaugeMetricFamily("flyball_vehicles", "Vehicles by state", labels=["state"])
    for state, count in status.vehicles.model_dump().items():
        vehicles.add_metric([state], count)
    yield vehicles
    alarms = GaugeMetricFamily("flyball_alarm", "Active alarms", labels=["code", "severity"])
    for code, severity in sorted({(alarm.code, alarm.severity) for alarm in status.alarms}):
        alarms.add_metric([code, severity], 1)
    yield alarms
    late = GaugeMetricFamily("flyball_latency_milliseconds", "Source stamp to stage", labels=["stage", "quantile"])
    for stage, latency in status.latency_ms.items():
        for quantile in ("p50", "p99", "max"):
            value = getattr(latency, quantile)
            if value is not None:
                late.add_metric([stage, quantile], value)
    yield late
    rejected = CounterMetricFamily("flyball_rejected", "Samples refused by the quality gate", labels=["reason"])
    for reason, count in status.rejected.items():
        rejected.add_metric([reason], count)
    yield rejected


def _sources(status: Status) -> Iterator[Metric]:
    """Which source of frequency is used, what of each was refused, and how its clock goes."""
    used = GaugeMetricFamily("flyball_source_used", "1: the value acted on rests on it", labels=["source"])
    state = GaugeMetricFamily("flyball_source_state", "1 for the state that it is in", labels=["source", "state"])
    decided = CounterMetricFamily("flyball_source_decisions", "Decisions with its stamps", labels=["source"])
    refused = CounterMetricFamily("flyball_source_rejected", "Its refused rows", labels=["source", "reason"])
    offset = GaugeMetricFamily("flyball_source_clock_offset_seconds", "Arrival minus stamp, least", labels=["source"])
    drift = GaugeMetricFamily("flyball_source_clock_drift_ppm", "Above 0 its clock is slow", labels=["source"])
    for source in status.sources:
        used.add_metric([source.name], float(source.used))
        state.add_metric([source.name, source.state], 1)
        decided.add_metric([source.name], source.decided)
        for reason, count in source.rejected.items():
            refused.add_metric([source.name, reason], count)
        for family, known in ((offset, source.clock.get("offset_s")), (drift, source.clock.get("drift_ppm"))):
            if known is not None:
                family.add_metric([source.name], known)
    yield from (used, state, decided, refused, offset, drift)


# Of a process' row, what is no count.
NO_COUNT = ("t_ns", "pid", "epoch", "continues")


def _processes(status: Status) -> Iterator[Metric]:
    """What each process says of itself: its age, its memory, whatever it counts."""
    age = GaugeMetricFamily("flyball_process_age_seconds", "Since the process last wrote", labels=["process"])
    memory = GaugeMetricFamily("flyball_process_resident_bytes", "Memory in use", labels=["process"])
    counts = CounterMetricFamily("flyball_process_events", "Counters of the process", labels=["process", "event"])
    for process, row in sorted(status.processes.items()):
        if process in status.ages.processes_s:
            age.add_metric([process], status.ages.processes_s[process])
        if isinstance(row.get("rss_mb"), float | int):
            memory.add_metric([process], row["rss_mb"] * 2**20)
        for name, value in _counters("", row):
            counts.add_metric([process, name], value)
    yield from (age, memory, counts)


def _counters(prefix: str, row: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Whole numbers of a row, those of its tables included."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _counters(f"{prefix}{name}.", value)
        elif type(value) is int and value >= 0 and name not in NO_COUNT:
            yield prefix + name, value


def _stages(histograms: dict[str, dict[str, Any]]) -> Metric:
    """A sample's way, stage by stage; a histogram that cannot be read is left out."""
    family = HistogramMetricFamily(
        "flyball_stage_seconds", "From the source's stamp to the commands, by stage", labels=["process", "stage"]
    )
    for process, stages in sorted(histograms.items()):
        for stage, found in stages.items():
            try:
                buckets = [(str(bound), float(count)) for bound, count in found["le"].items()]
                total, seconds = float(found["count"]), float(found["sum_s"])
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
            family.add_metric([process, stage], [*buckets, ("+Inf", total)], seconds)
    return family


def make_registry(feed: Feed) -> CollectorRegistry:
    """A registry of its own, so that two applications in one process do not collide."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(feed))
    return registry
