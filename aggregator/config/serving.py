"""Tables of what stands around the core: API, the utility's server, store, journal, settlement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from aggregator.config.table import Table

if TYPE_CHECKING:
    from aggregator.journal_keeping import Limits

Origin = Literal["bay", "station", "remote", "automatic_bay", "automatic_station", "automatic_remote"]


class ApiTable(Table):
    """The API process."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    cert: Path | None = None
    key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    signal_max_kw: float | None = Field(None, ge=0, description="unset: as much as is sold")


class UtilityClientTable(Table):
    """A client of the utility's server, by its certificate."""

    name: str = Field(min_length=1, max_length=64)
    cert: Path
    operate: bool = False


class UtilityTable(Table):
    """The IEC 61850 server on the utility's side; the process runs where this table stands."""

    host: str = "127.0.0.1"
    port: int = Field(10103, ge=0, le=65535)
    cert: Path | None = None
    key: Path | None = None
    client: tuple[UtilityClientTable, ...] = ()
    local_operate: bool = Field(False, description="without TLS: whether any program of this machine may operate")
    ied: str = "FLYBALL"
    device: str = "VPP"
    control: Literal["direct", "select"] = "select"
    select_s: float = Field(30.0, gt=0, le=3600)
    valid_s: float = Field(60.0, gt=0, le=3600)
    interval_s: float = Field(0.5, ge=0, le=3600)
    step_kw: float | None = Field(None, gt=0, allow_inf_nan=False)
    age_s: float = Field(10.0, gt=0, le=3600)
    categories: tuple[Origin, ...] = ("remote", "automatic_remote")
    names: dict[str, str] = Field(default_factory=dict, description="figure = LN.DO")


class StoreTable(Table):
    """The embedded servers; `FLYBALL_REDIS_URL` takes their place."""

    maxmemory_mb: int = Field(512, ge=64)
    paired: bool = Field(True, description="a second one beside the first, which has the frequency as well")
    snapshot_s: float = Field(5.0, ge=1, le=60, description="the worker's state for a new owner")


class JournalTable(Table):
    """How long the journal is kept; 0: for ever."""

    keep_days: float = Field(0.0, ge=0, le=36_525)
    keep_gb: float = Field(0.0, ge=0, description="of all tables together; the oldest hours go first")
    keep_kind_days: dict[str, Annotated[float, Field(ge=0, le=36_525)]] = Field({}, description="by table, instead")

    @model_validator(mode="after")
    def _known(self) -> JournalTable:
        from aggregator.journal import ELSEWHERE, TABLE_OF

        known = sorted({*TABLE_OF.values(), ELSEWHERE})
        for name in self.keep_kind_days:
            if name not in known:
                raise ValueError(f"`keep_kind_days.{name}` is no table of the journal; known: {', '.join(known)}")
        return self

    def limits(self) -> Limits:
        """As the journal's housekeeping takes them."""
        from aggregator.journal_keeping import Limits

        return Limits(self.keep_days, self.keep_kind_days, round(self.keep_gb * 1e9))


class SettlementTable(Table):
    """What the settlement does besides."""

    prices: Path | None = Field(
        None, description="file of prices: what it earns is sealed too; read anew as it changes"
    )
