"""`flyball ied | pmu | ingest | worker | gateway | api | utility`: one process each, on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aggregator.cli.output import app

Config = Annotated[Path | None, typer.Option("--config", help="TOML configuration; the same for all processes.")]


def run_role(role: str, config: Path | None, **overrides: Any) -> None:
    """One role of a run whose store the environment names."""
    from aggregator.config import ConfigError, load, redis_url, redis_url_b
    from aggregator.configured import core_settings
    from aggregator.process import Stop, logger
    from aggregator.roles import ROLES, Run

    loaded = load(config, **overrides)
    url = redis_url(None)
    if url is None and role != "unit":
        raise ConfigError(f"FLYBALL_REDIS_URL is not set; `flyball {role}` needs a store, `flyball run` brings its own")
    core = core_settings(loaded)
    loaded.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    url_b = redis_url_b(None) or ""
    run = Run(loaded, loaded.folder, url or "", core.to_json().decode(), core.nominal_hz, url_b=url_b)
    ROLES[role](run, Stop(guarded=False), logger(role, loaded.log))


@app.command(epilog="Example: flyball ied --port 10102 --rate 50 --fault dead-bus@20+5")
def ied(
    config: Config = None,
    port: Annotated[int | None, typer.Option(help="TCP port to listen on; 10102, or the configuration's.")] = None,
    rate: Annotated[float | None, typer.Option(help="Samples a second [Hz].")] = None,
    trace: Annotated[Path | None, typer.Option(help="A recorded trace instead of the generator.")] = None,
    nominal_hz: Annotated[float, typer.Option(help="Of the grid: 50 or 60.")] = 50.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the generator.")] = None,
    fault: Annotated[list[str] | None, typer.Option(help="KIND@SECONDS[+DURATION]; may be repeated.")] = None,
    backend: Annotated[str | None, typer.Option(help="libiec61850 or open61850.")] = None,
) -> None:
    """Be a measuring unit: an IEC 61850 server with MMXU frequency and voltage in report control blocks."""
    from aggregator.config import load
    from aggregator.process import Stop, logger
    from aggregator.unit import Playing, serve

    if port is None and config is None:
        port = 10102
    loaded = load(
        config, unit__port=port, unit__rate_hz=rate, unit__seed=seed, unit__faults=tuple(fault or ()) or None,
        unit__backend=backend,
    )  # fmt: skip
    serve(loaded.unit, Playing(nominal_hz, trace), Stop(guarded=False), logger("ied", loaded.log))


@app.command(epilog="Example: flyball pmu --port 4712 --rate 50 --idcode 7 --fault crc@20+5")
def pmu(
    port: Annotated[int, typer.Option(help="TCP and UDP port to listen on.")] = 4712,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    rate: Annotated[int, typer.Option(help="Data frames a second.")] = 50,
    trace: Annotated[Path | None, typer.Option(help="A recorded trace instead of the generator.")] = None,
    nominal_hz: Annotated[float, typer.Option(help="Of the grid: 50 or 60.")] = 50.0,
    nominal_volt: Annotated[float, typer.Option(help="Phase to neutral [V].")] = 11547.0,
    seed: Annotated[int, typer.Option(help="Seed of the generator.")] = 1,
    fault: Annotated[list[str] | None, typer.Option(help="KIND@SECONDS[+DURATION]; may be repeated.")] = None,
    idcode: Annotated[int, typer.Option(help="IDCODE of the PMU.")] = 1,
    others: Annotated[int, typer.Option(help="Further PMUs in the stream, IDCODEs one after the other.")] = 0,
    stream: Annotated[int | None, typer.Option(help="IDCODE of the stream; the PMU's where unset.")] = None,
    integers: Annotated[bool, typer.Option("--integers", help="16-bit words instead of floating point.")] = False,
    rectangular: Annotated[bool, typer.Option("--rectangular", help="Real and imaginary instead of polar.")] = False,
    send_to: Annotated[str | None, typer.Option(help="HOST:PORT to send to unasked, by UDP.")] = None,
) -> None:
    """Be a phasor measuring unit: an IEEE C37.118.2 server with frequency and three phase voltages."""
    from aggregator.pmu import Plan, serve
    from aggregator.process import Stop, logger

    plan = Plan(
        port=port, host=host, rate=rate, trace=trace, nominal_hz=nominal_hz, nominal_volt=nominal_volt, seed=seed,
        faults=tuple(fault or ()), idcode=idcode, others=others, stream=stream, floats=not integers,
        polar=not rectangular, send_to=send_to,
    )  # fmt: skip
    serve(plan, Stop(guarded=False), logger("pmu"))


@app.command(epilog="Example: FLYBALL_REDIS_URL=redis://127.0.0.1:6379 flyball ingest --config flyball.toml")
def ingest(
    config: Config = None,
    name: Annotated[str, typer.Option(help="Which one of `worker.ingests` to be.")] = "i1",
) -> None:
    """Follow the sources of frequency, judge their samples, choose among them, publish."""
    from aggregator.config import ConfigError, load
    from aggregator.roles import ingest_role

    known = load(config).worker.ingests
    if name not in known:
        raise ConfigError(f"--name {name}: none of `worker.ingests`, which are {', '.join(known)}")
    run_role(ingest_role(name), config)


@app.command(epilog="Example: FLYBALL_REDIS_URL=redis://127.0.0.1:6379 flyball worker --config flyball.toml")
def worker(
    config: Config = None,
    ingest: Annotated[
        list[str] | None, typer.Option(help="Whose samples to follow, preferred one first; may be repeated.")
    ] = None,
) -> None:
    """Turn samples into set-points."""
    run_role("worker", config, worker__ingests=ingest or None)


@app.command(epilog="Example: FLYBALL_REDIS_URL=redis://127.0.0.1:6379 flyball gateway --config flyball.toml")
def gateway(config: Config = None) -> None:
    """Hold the fleet's sessions; the simulated fleet stands behind it."""
    run_role("gateway", config)


@app.command(epilog="Example: FLYBALL_REDIS_URL=redis://127.0.0.1:6379 flyball api --config flyball.toml")
def api(config: Config = None) -> None:
    """Serve REST, WebSocket and the dashboard."""
    run_role("api", config)


@app.command(epilog="Example: FLYBALL_REDIS_URL=redis://127.0.0.1:6379 flyball utility --config flyball.toml")
def utility(config: Config = None) -> None:
    """Be the IEC 61850 server that a utility reads from and operates; needs a table [utility]."""
    run_role("utility", config)
