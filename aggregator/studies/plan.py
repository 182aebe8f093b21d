"""A study file: what all cases share, what varies, and the cases that come of it.

    name = "how much to sell, and how wide a dead band"
    kind = "pool"                       # one battery for the fleet; `fleet`: a whole backtest for each case
    traces = ["2024.csv", "2025.csv"]   # each is a year of its own; `join = true` plays them one after the other

    [case]
    product = "ce_fcr"
    energy_kwh = 2000.0

    [vary]
    sold_kw = [500.0, 1000.0]
    deadband_hz = [0.0, 0.01]

Every combination is a case, in the order of the file: the last key turns fastest. A case is plain data with a digest
of its own, so that a study that was stopped knows what is done, and any process may take any of them.
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Final, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from droop import tomlfiles
from droop.tables import TableError

CASES_MAX: Final = 100_000
POOL_KEYS: Final = frozenset(
    (
        "product", "deadband_hz", "full_hz", "sold_kw", "energy_kwh", "up_kw", "down_kw", "eta_charge_frac",
        "eta_discharge_frac", "soc_min_frac", "soc_max_frac", "soc_frac", "restore_h", "overfulfil_max",
    )
)  # fmt: skip
FLEET_KEYS: Final = frozenset(
    ("product", "deadband_hz", "full_hz", "dead_s", "ramp_kw_s", "sold_kw", "vehicles", "seed", "perfect")
)

NUMBERS: Final = (POOL_KEYS | FLEET_KEYS) - {"product", "perfect"}

Scalar = bool | int | float | str


class StudyError(ValueError):
    """A study that cannot be run; one line that names the field and the remedy."""


class StudyFile(BaseModel):
    """The file as it is written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = "study"
    kind: Literal["pool", "fleet"] = "pool"
    traces: list[str] = Field(min_length=1)
    join: bool = False
    reader: dict[str, Scalar] = {}
    config: str | None = None
    block_s: float = Field(default=900.0, gt=0.0, allow_inf_nan=False)
    any_date: bool = False
    case: dict[str, Scalar] = {}
    vary: dict[str, list[Scalar]] = {}


class Case(NamedTuple):
    """One combination: plain data, the same on every machine that has the files.

    number : place in the study
    traces : paths, played one after the other
    sizes  : of them in bytes, so that a file that has grown is another case
    told   : digests of the configuration and of a product's file, so that one that was rewritten is another case
    values : every key with its value, in alphabetical order
    """

    number: int
    kind: str
    traces: tuple[str, ...]
    sizes: tuple[int, ...]
    values: tuple[tuple[str, Scalar], ...]
    reader: tuple[tuple[str, Scalar], ...]
    config: str | None
    block_s: float
    any_date: bool
    told: tuple[str, ...] = ()

    def number_of(self, key: str) -> float | None:
        """A key's value, where it is given."""
        value = dict(self.values).get(key)
        return None if value is None else float(value)

    @property
    def digest(self) -> str:
        """What was asked, in sixteen digits; the place in the study is no part of it."""
        told = orjson.dumps(self._replace(number=0)._asdict(), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(told).hexdigest()[:16]


class Study(NamedTuple):
    """What is to be done.

    varied : keys that vary, `trace` among them where each file stands for itself
    """

    name: str
    cases: tuple[Case, ...]
    varied: tuple[str, ...]


def read(path: Path) -> Study:
    """The study of a file. Raises StudyError."""
    try:
        table = tomlfiles.own(path, "study")
    except TableError as error:
        raise StudyError(str(error)) from error
    try:
        told = StudyFile.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][:2])
        raise StudyError(f"{path}: field `{field}`: {first['msg']}") from error
    return plan(told, path)


def plan(told: StudyFile, path: Path) -> Study:
    """Every combination. path : of the file, which its traces are relative to. Raises StudyError."""
    _check_keys(told, path)
    files = [str(found) for pattern in told.traces for found in _found(path.parent, pattern, path)]
    runs = [tuple(files)] if told.join else [(file,) for file in files]
    keys = list(told.vary)
    count = len(runs)
    for key in keys:
        count *= len(told.vary[key])
    if count > CASES_MAX:
        raise StudyError(f"{path}: field `vary`: {count} cases, take at most {CASES_MAX}")
    config = None if told.config is None else str((path.parent / told.config).resolve())
    cases: list[Case] = []
    for traces in runs:
        sizes = tuple(Path(trace).stat().st_size for trace in traces)
        for chosen in itertools.product(*(told.vary[key] for key in keys)):
            values = {**told.case, **dict(zip(keys, chosen, strict=True))}
            cases.append(
                Case(
                    len(cases), told.kind, traces, sizes, tuple(sorted(values.items())),
                    tuple(sorted(told.reader.items())), config, told.block_s, told.any_date,
                    _told_by(config, *values.values()),
                )
            )  # fmt: skip
    return Study(told.name, tuple(cases), tuple(["trace"] * (len(runs) > 1) + keys))


def _told_by(*texts: Scalar | None) -> tuple[str, ...]:
    """Digests of those of the texts that name files."""
    files = [Path(text) for text in texts if isinstance(text, str) and Path(text).is_file()]
    return tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


def _check_keys(told: StudyFile, path: Path) -> None:
    known = POOL_KEYS if told.kind == "pool" else FLEET_KEYS
    for where in ("case", "vary"):
        for key in getattr(told, where):
            # A dotted key is one of the configuration file's.
            if key not in known and not (told.kind == "fleet" and "." in key):
                more = " or a dotted key of the configuration" if told.kind == "fleet" else ""
                raise StudyError(f"{path}: field `{where}.{key}`: takes {', '.join(sorted(known))}{more}")
        for key in NUMBERS & set(getattr(told, where)):
            values = getattr(told, where)[key]
            if any(isinstance(value, (bool, str)) for value in (values if where == "vary" else [values])):
                raise StudyError(f"{path}: field `{where}.{key}`: takes numbers")
    empty = next((key for key, values in told.vary.items() if not values), None)
    if empty is not None:
        raise StudyError(f"{path}: field `vary.{empty}`: give at least one value")
    twice = next((key for key, values in told.vary.items() if len(set(values)) < len(values)), None)
    if twice is not None:
        raise StudyError(f"{path}: field `vary.{twice}`: give each value once")
    if "product" not in told.case and "product" not in told.vary:
        raise StudyError(f"{path}: field `case.product`: name the product that is sold")
    if told.config is not None and told.kind == "pool":
        raise StudyError(f'{path}: field `config`: a pool has no chargers to configure; take `kind = "fleet"`')


def _found(folder: Path, pattern: str, path: Path) -> list[Path]:
    whole = Path(pattern) if Path(pattern).is_absolute() else folder / pattern
    if any(sign in pattern for sign in "*?["):
        found = sorted(whole.parent.glob(whole.name))
        if not found:
            raise StudyError(f"{path}: field `traces`: nothing is called {pattern}")
        return [each.resolve() for each in found]
    if not whole.is_file():
        raise StudyError(f"{path}: field `traces`: {pattern} is not a file; patterns such as 2025-*.csv will do")
    return [whole.resolve()]
