"""The processes of one run, as `python -m aggregator.roles ROLE FOLDER`: what the supervisor starts.

A run's folder holds `run.json`, what every process of the run needs to know. Each role imports only what it
needs, so that the measuring unit, the ingest and the utility's server alone load the IEC 61850 library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from aggregator import users
from aggregator.config import Config, UnitTable, redis_url, redis_url_b, validate
from aggregator.process import Log, Stop, logger

RUN: str = "run.json"
NAMES: dict[str, str] = {"ingest": "i1", "gateway": "g1", "api": "a1", "worker": "w1", "utility": "u1"}
DIGITS: str = "0123456789"  # `unit2` is a further unit, `ingest2` a further ingest


@dataclass(frozen=True)
class Run:
    """What the processes of a run share.

    folder : where journal and keys lie; core : the CoreSettings as JSON text
    since : newest entry of each stream when the run began; what is older is another run's
    begun_ns : when the simulated units' time began, one for all of them and for their next lives
    url, url_b : of the store, and of the second server for the frequency; empty: there is none
    """

    config: Config
    folder: Path
    url: str
    core: str
    nominal_hz: float
    trace: str | None = None
    trace_overrides: dict[str, Any] | None = None
    since: dict[str, str] | None = None
    begun_ns: int | None = None
    url_b: str = ""

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers that hold the frequency, the store first."""
        return (self.url, self.url_b) if self.url_b else (self.url,)

    def as_user(self, name: str) -> Run:
        """The same with the addresses that a user of the embedded servers takes."""
        keys = self.folder / "keys"
        url_b = users.address(self.url_b, keys, name) if self.url_b else ""
        return replace(self, url=users.address(self.url, keys, name), url_b=url_b)

    def write(self) -> None:
        """Put the run where its processes find it."""
        # A server of one's own may have its password in its address: the environment hands it on, no file does.
        url = "" if self.url == redis_url(None) else self.url
        url_b = "" if self.url_b == redis_url_b(None) else self.url_b
        table = {
            **self.__dict__, "config": self.config.model_dump(mode="json"), "folder": str(self.folder), "url": url,
            "url_b": url_b,
        }  # fmt: skip
        path = self.folder / RUN
        path.touch(mode=0o600)
        path.write_bytes(orjson.dumps(table))


def read(folder: Path) -> Run:
    """The run that `write` left."""
    table = orjson.loads((folder / RUN).read_bytes())
    table["config"] = validate(table["config"], str(folder / RUN))
    table["folder"] = Path(table["folder"])
    table["url"] = table["url"] or redis_url(None) or ""
    table["url_b"] = table["url_b"] or redis_url_b(None) or ""
    return Run(**table)


def unit(run: Run, stop: Stop, log: Log, number: int = 1) -> None:
    """A simulated measuring unit, the first or a further one."""
    from aggregator.unit import Playing, serve

    trace = Path(run.trace) if run.trace else None
    playing = Playing(run.nominal_hz, trace, run.trace_overrides, number, run.begun_ns)
    serve(unit_table(run.config, number), playing, stop, log)


def unit_table(config: Config, number: int) -> UnitTable:
    """`[unit]` with the address of the simulated unit `number`, from 1."""
    simulated = [source for source in config.sources if source.simulated]
    if number > len(simulated):
        return config.unit
    return config.unit.model_copy(update={name: getattr(simulated[number - 1], name) for name in ("host", "port")})


def ingest(run: Run, stop: Stop, log: Log, name: str = "i1") -> None:
    """Reports to the frequency stream of one ingest."""
    from aggregator.ingest import serve

    serve(run.config, run.nominal_hz, run.url, stop, log, run.url_b, name, ingest_role(name))


def ingest_role(name: str) -> str:
    """The process of an ingest: `ingest` of `i1`, `ingest2` of `i2`."""
    return f"ingest{name[1:]}" if name != NAMES["ingest"] else "ingest"


def worker(run: Run, stop: Stop, log: Log) -> None:
    """The engine."""
    from aggregator.contracts import from_json
    from aggregator.keys import KEY_ID, command_keys
    from aggregator.worker import serve
    from telemetry.choice import ChoiceSettings

    key = command_keys(run.folder / "keys")[KEY_ID]
    settings = from_json(run.core.encode())
    follows = run.config.worker
    choice = ChoiceSettings(**follows.choice.model_dump(exclude_none=True)) if follows.choice else None
    serve(
        settings, key, run.urls, NAMES, stop, log, run.since, run.config.store.snapshot_s, follows.ingests, choice
    )  # fmt: skip


def gateway(run: Run, stop: Stop, log: Log) -> None:
    """The simulated fleet."""
    from aggregator.fleetside import serve
    from aggregator.keys import command_keys

    serve(run.config, command_keys(run.folder / "keys"), run.url, stop, log, run.since)


def settle(run: Run, stop: Stop, log: Log) -> None:
    """Journal and statements."""
    from aggregator.settling import serve

    limits, keys, ingests = run.config.journal.limits(), run.folder / "keys", run.config.worker.ingests
    serve(
        run.config.area, run.url, run.folder / "journal", NAMES, stop, log, run.since, limits, keys, ingests,
        run.config.settlement.prices,
    )  # fmt: skip


def api(run: Run, stop: Stop, log: Log) -> None:  # noqa: ARG001 - one form for all roles
    """REST, WebSocket and dashboard."""
    from aggregator.serving import serve

    serve(run.config, run.url, run.folder / "keys", sum(sold_kw(run)), stop)


def utility(run: Run, stop: Stop, log: Log) -> None:
    """The utility's IEC 61850 server."""
    from aggregator.utility import serve

    serve(run.config, run.url, run.folder, sum(sold_kw(run)), stop, log)


def sold_kw(run: Run) -> list[float]:
    """What the run sells, per contract [kW]."""
    return [float(entry["sold_kw"]) for entry in orjson.loads(run.core)["contracts"]]


def streams(area: str, ingests: Sequence[str] = ("i1",)) -> list[str]:
    """Every stream of an area."""
    further = [
        f"{name}:{area}:{one}" for one in ingests if one != NAMES["ingest"] for name in ("freq", "sources", "backfill")
    ]
    return further + [
        f"{name}:{area}:{NAMES[role]}"
        for name, role in (
            ("freq", "ingest"), ("sources", "ingest"), ("backfill", "ingest"), ("fleet", "gateway"), ("cmd", "gateway"),
            ("signal", "api"), ("signal", "utility"), ("wishes", "api"), ("journal", "worker"),
        )
    ]  # fmt: skip


ROLES: dict[str, Callable[[Run, Stop, Log], None]] = {
    "unit": unit, "ingest": ingest, "worker": worker, "gateway": gateway, "settle": settle, "api": api,
    "utility": utility, **{f"unit{number}": partial(unit, number=number) for number in range(2, 9)},
    **{ingest_role(f"i{number}"): partial(ingest, name=f"i{number}") for number in range(2, 5)},
}  # fmt: skip


def main() -> int:
    """Run one role under a supervisor; standard input is its pipe."""
    role, folder = sys.argv[1], Path(sys.argv[2])
    run = read(folder).as_user(role.rstrip(DIGITS))
    log = logger(role, run.config.log)
    stop = Stop(guarded=True)
    try:
        ROLES[role](run, stop, log)
    except (ValueError, OSError, RuntimeError) as error:
        log.error("ended", error=f"{type(error).__name__}: {error}")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
