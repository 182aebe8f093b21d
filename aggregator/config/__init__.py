"""The configuration: one TOML file, checked once, frozen. Secrets are not in it.

Every table and key has a default that makes `flyball run` work on one machine. An unknown key is refused with
the nearest valid one; a bad value names its place. Environment: `FLYBALL_REDIS_URL`, `FLYBALL_REDIS_URL_B`,
`FLYBALL_API_TOKEN`, `FLYBALL_COMMAND_KEY`.

Here are the whole and how it is read; the tables lie beside it by what they are of (`fleet`, `measuring`, `engine`,
`serving`), and what the environment says in `environment`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from aggregator.config.engine import EngineTable, LimitsTable, ProtectionTable
from aggregator.config.environment import redis_url, redis_url_b, store_keys
from aggregator.config.fleet import ContractTable, FleetTable, MeterTable, SiteTable, check_sites
from aggregator.config.measuring import ChoiceTable, QualityTable, SourceTable, UnitTable, WorkerTable
from aggregator.config.serving import (
    ApiTable,
    JournalTable,
    SettlementTable,
    StoreTable,
    UtilityClientTable,
    UtilityTable,
)
from aggregator.config.table import ConfigError, Table
from droop import tomlfiles
from droop.tables import TableError

__all__ = [
    "ApiTable", "ChoiceTable", "Config", "ConfigError", "ContractTable", "EngineTable", "FleetTable", "JournalTable",
    "LimitsTable", "MeterTable", "ProtectionTable", "QualityTable", "SettlementTable", "SiteTable", "SourceTable",
    "StoreTable", "Table", "UnitTable", "UtilityClientTable", "UtilityTable", "WorkerTable", "load", "redis_url",
    "redis_url_b", "store_keys", "validate",
]  # fmt: skip


class Config(Table):
    """The whole configuration."""

    area: str = Field("ce", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    folder: Path = Field(Path("var"), description="journal, keys, sockets")
    log: Literal["info", "debug", "warning"] = "info"
    contract: tuple[ContractTable, ...] = (ContractTable(),)
    fleet: FleetTable = FleetTable()
    unit: UnitTable = UnitTable()
    source: tuple[SourceTable, ...] = ()
    choice: ChoiceTable = ChoiceTable()
    worker: WorkerTable = WorkerTable()
    quality: QualityTable = QualityTable()
    engine: EngineTable = EngineTable()
    limits: LimitsTable = LimitsTable()
    site: tuple[SiteTable, ...] = ()
    protection: ProtectionTable = ProtectionTable()
    api: ApiTable = ApiTable()
    store: StoreTable = StoreTable()
    journal: JournalTable = JournalTable()
    settlement: SettlementTable = SettlementTable()
    meter: tuple[MeterTable, ...] = ()
    utility: UtilityTable | None = None

    @model_validator(mode="after")
    def _sites(self) -> Config:
        check_sites(self.site, self.fleet.vehicles)
        return self

    @model_validator(mode="after")
    def _sources(self) -> Config:
        names = [source.name for source in self.source]
        if len(set(names)) != len(names):
            raise ValueError(f"`source.name`: {max(names, key=names.count)!r} is given twice")
        if len(names) > 8:
            raise ValueError(f"`source`: {len(names)} tables; one process follows 8 at most")
        if self.unit.count > 1 and (self.source or not self.unit.simulated):
            raise ValueError(
                "`unit.count`: counts simulated units alone; with [[source]] tables, give each one its own"
            )
        return self

    @model_validator(mode="after")
    def _ingests(self) -> Config:
        names = self.worker.ingests
        if len(set(names)) != len(names):
            raise ValueError(f"`worker.ingests`: {max(names, key=names.count)!r} is given twice")
        for source in self.sources:
            if source.ingest is not None and source.ingest not in names:
                raise ValueError(f"`source.ingest`: {source.ingest!r} of {source.name!r} is none of `worker.ingests`")
            if source.ingest not in (None, names[0]) and source.options.get("history", self.unit.history):
                raise ValueError(f"`source.options.history` of {source.name!r}: only {names[0]!r} brings late history")
        for name in names:
            if not self.sources_of(name):
                raise ValueError(f"`worker.ingests`: {name!r} has no source; give it one, or leave it out")
        return self

    def sources_of(self, ingest: str) -> dict[int, SourceTable]:
        """The sources that one ingest follows, by the number of their rows, preferred ones first."""
        numbered = enumerate(self.sources, 1)
        return {number: source for number, source in numbered if source.ingest in (None, ingest)}

    @property
    def sources(self) -> tuple[SourceTable, ...]:
        """Every source of frequency, preferred ones first."""
        given = self.source or tuple(
            SourceTable.model_construct(
                name=f"unit{k + 1}", host=self.unit.host, port=self.unit.port if k == 0 else 0, priority=k + 1,
                simulated=self.unit.simulated,
                # One unit serves all of them; of several each ingest has its own.
                ingest=self.worker.ingests[k % len(self.worker.ingests)] if self.unit.count > 1 else None,
            )
            for k in range(self.unit.count)
        )  # fmt: skip
        return tuple(sorted(given, key=lambda source: source.priority))


def load(path: Path | None, **overrides: Any) -> Config:
    """The configuration of a file, or the defaults, with options of the command line on top.

    overrides : dotted names with `__` for the dot (`fleet__vehicles=10`); None leaves the file's value
    """
    table: dict[str, Any] = {}
    where = "options"
    if path is not None:
        where = str(path)
        try:
            table = tomlfiles.own(path, "configuration", "give a TOML file")
        except TableError as error:
            raise ConfigError(str(error)) from error
    for dotted, value in overrides.items():
        if value is not None:
            _put(table, dotted.split("__"), value)
    return validate(table, where)


def validate(table: dict[str, Any], where: str) -> Config:
    """A Config, or one ConfigError for the first thing that is wrong."""
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first(error)}") from error


def _put(table: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return  # no table: the check names it
    table[names[-1]] = value


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    place = [str(part) for part in found["loc"]]
    name = ".".join(place)
    if not place:
        return str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "tuple_type" and isinstance(found["input"], dict):
        return f"`{name}`: one table of several; write its head as [[{name}]]"
    if found["type"] != "extra_forbidden":
        return f"`{name}`: {found['msg']}, got {found['input']!r}"
    known = _keys(place[:-1])
    near = difflib.get_close_matches(place[-1], known, 1)
    return f"unknown key `{name}`; " + (
        f"did you mean `{'.'.join([*place[:-1], near[0]])}`?" if near else f"known here: {', '.join(known)}"
    )


def _keys(place: list[str]) -> list[str]:
    """Valid keys of the table at `place`: numbers in it tell which of several."""
    model: type[BaseModel] = Config
    for part in place:
        if part in model.model_fields:
            model = _table_of(model.model_fields[part].annotation) or model
    return sorted(model.model_fields)


def _table_of(hint: Any) -> type[BaseModel] | None:
    """The table that an annotation names: itself, one of several, or one that may be missing."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    return next((found for part in get_args(hint) if (found := _table_of(part))), None)
