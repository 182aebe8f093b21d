"""Tables of the frequency on its way in: measuring units, sources, the choice among them, the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from aggregator.config.table import Table

IngestName = Annotated[str, Field(pattern=r"^i[1-4]$")]


class UnitTlsTable(Table):
    """PEM files of the association with the measuring unit; passwords are in the environment."""

    cert: Path
    key: Path
    pins: tuple[Path, ...] = ()
    ca: tuple[Path, ...] = ()


class UnitTable(Table):
    """The measuring unit, and the simulated ones that `flyball run` starts."""

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535, description="0: a free one")
    rate_hz: float = Field(50.0, gt=0, le=1000)
    seed: int = Field(1, ge=0)
    trip_every_s: float = Field(180.0, gt=0)
    faults: tuple[str, ...] = ()
    nominal_volt: float = Field(11547.0, gt=0)
    report_block: str | None = Field(None, description="unset: the best free one that browsing finds")
    hz_ref: str | None = Field(None, description="unset: the Hz of the block's data set")
    volt_ref: str | None = Field(None, description="unset: PhV beside it")
    poll_ms: int = Field(20, ge=0, le=60_000, description="where no block is free; 0: wait for one")
    tls: UnitTlsTable | None = None
    plaintext: bool = Field(False, description="without TLS beyond this machine")
    history: bool = Field(False, description="a buffered block besides: what was missed, for the record")
    silent_after_s: float = Field(3.0, gt=0, le=3600)
    backend: Literal["libiec61850", "open61850"] | None = Field(None, description="unset: the best one installed")
    simulated: bool = True
    count: int = Field(1, ge=1, le=8, description="simulated units side by side on one grid, each a source")


class SourceTable(Table):
    """One source of frequency of several; without any, the units of `[unit]` are the sources."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")
    kind: Literal["iec61850", "c37118", "goose"] = "iec61850"
    host: str = Field("127.0.0.1", description="of `goose`: the network interface")
    port: int = Field(0, ge=0, le=65535, description="0: a free one, for a simulated unit; `goose` has none")
    priority: int = Field(1, ge=1, le=99, description="1 is preferred; of equal ones the first in the file")
    simulated: bool = Field(False, description="`flyball run` starts a unit of `[unit]` for it")
    nominal_volt: float | None = Field(None, gt=0, description="unset: that of `[unit]`")
    silent_after_s: float | None = Field(None, gt=0, le=3600, description="unset: that of `[unit]`")
    ingest: IngestName | None = Field(None, description="which of `worker.ingests` follows it; unset: each of them")
    options: dict[str, Any] = Field(default_factory=dict, description="further options of that kind of client")

    @model_validator(mode="after")
    def _reachable(self) -> SourceTable:
        if self.simulated and self.kind != "iec61850":
            raise ValueError("`simulated`: the simulated unit speaks iec61850; set `kind` to it, or name a real source")
        if not self.simulated and self.port == 0 and self.kind != "goose":
            raise ValueError("`port`: name the port of the source, or make it `simulated`")
        return self


class ChoiceTable(Table):
    """How one of several sources is chosen; None leaves the default of `telemetry.choice`."""

    policy: Literal["priority", "voting"] | None = None
    agree_hz: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    disagree_s: float | None = Field(None, gt=0, le=60)
    out_s: float | None = Field(None, gt=0, le=60)
    return_s: float | None = Field(None, gt=0, le=3600)
    slew_hz_s: float | None = Field(None, gt=0, description="inf: at once")


class WorkerTable(Table):
    """What the worker follows: one ingest, or several of which one is chosen."""

    ingests: tuple[IngestName, ...] = Field(("i1",), min_length=1, description="preferred ones first")
    choice: ChoiceTable | None = Field(None, description="among the ingests, as [choice] among sources")


class QualityTable(Table):
    """Settings of the gate; None leaves its own default."""

    spike_test: Literal["rate", "median"] = Field(
        "rate", description="`median`: of three, and every sample waits for the next"
    )

    band_frac: float | None = Field(None, gt=0, lt=0.5)
    spike_ceiling_hz: float | None = Field(None, gt=0)
    spike_rows: int | None = Field(None, ge=1, le=50)
    stuck_s: float | None = Field(None, gt=0)
    volt_min_frac: float | None = Field(None, ge=0, lt=1)
    age_max_s: float | None = Field(None, gt=0)
    clock_jump_s: float | None = Field(None, gt=0)
