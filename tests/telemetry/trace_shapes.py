"""Small files of the same shape as the published ones, each with the oddities these are known for.

Everything is made here from a seed; no published value is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np

SEED = 4
BEGIN = datetime(2026, 6, 22)


def hz(n: int, nominal: float = 50.0) -> list[float]:
    """A wandering frequency, three decimals."""
    steps = np.random.default_rng(SEED).normal(0.0, 0.002, n)
    return np.round(nominal + np.cumsum(steps), 3).tolist()


def clock(n: int, step_s: float = 1.0, begin: datetime = BEGIN) -> list[datetime]:
    return [begin + timedelta(seconds=step_s * k) for k in range(n)]


def neso() -> str:
    rows = (f"{at:%Y-%m-%d %H:%M:%S},{value}\n" for at, value in zip(clock(60), hz(60), strict=True))
    return "dtm,f\n" + "".join(rows)


def bmrs(n: int = 40, said: int | None = None) -> str:
    rows = (f"FREQ,{at:%Y%m%d%H%M%S},{value:.3f}\r\n" for at, value in zip(clock(n, 15), hz(n), strict=True))
    return "HDR,SYSTEM FREQUENCY DATA\r\n" + "".join(rows) + f"FTR,{n if said is None else said}\r\n"


NOTICE = "Données sans garantie, à l'usage du lecteur averti"


def rte(n: int = 60) -> bytes:
    cells = [f"{value:.4f}".replace(".", ",") for value in hz(n)]
    cells[7] = "50"
    cells[20:29] = ["N/A"] * 9
    times = clock(n, 10, datetime(2026, 3, 1))
    rows = "".join(f"{at:%d/%m/%Y %H:%M:%S};{cell};\n" for at, cell in zip(times, cells, strict=True))
    return f"{NOTICE}\nDATE;FREQUENCE_RETENUE(EN Hz);\n{rows}{NOTICE}\n".encode("latin-1")


def swapped(day: datetime) -> str:
    """A date as software writes that took the month first wherever it could."""
    return f"{day:%Y-%d-%m}" if day.day <= 12 else f"{day:%Y-%m-%d}"


def pgf(begin: datetime, n: int, *, wrong: bool = True) -> str:
    date: Callable[[datetime], str] = swapped if wrong else lambda at: f"{at:%Y-%m-%d}"
    values = [f"{1000 * (value - 50.0):.1f}" for value in hz(n)]
    return "".join(f"{date(at)} {at:%H:%M:%S},{value}\n" for at, value in zip(clock(n, 10, begin), values, strict=True))


def xor(text: str) -> int:
    total = 0
    for char in text:
        total ^= ord(char)
    return total


def sentence(text: str) -> str:
    return f"${text}*{xor(text):02X}"


def openpmu(seconds: list[float], end: str = "\r") -> str:
    values = hz(len(seconds), 60.0)
    rows = (
        sentence(f"KTH01,V1xx0,{at:.3f},1.55{k % 3},{value:.3f},{k % 360}.123") + end
        for k, (at, value) in enumerate(zip(seconds, values, strict=True))
    )
    return "".join(rows)


def openpmu_day() -> str:
    """Ten a second for ten seconds: one stamp repeated, the one after it left out, and half a second lost."""
    tenths = [*range(30), 29, *range(31, 60), *range(65, 100)]
    return openpmu([17_455.9 + k / 10 for k in tenths])


def eastern(n: int = 60) -> str:
    values = [round(value, 6) for value in hz(n, 60.0)]
    values[30] -= 0.265  # one sample, its neighbours as ever
    values[45] = 0.0
    return "".join(f"{k},{value}\n" for k, value in enumerate(values))


def toledo(n: int = 60) -> str:
    """A bus that dies at row 40 while its meter goes on printing."""
    rows = ["PhaseVoltageL1,PhaseVoltageL2,PhaseVoltageL3,L1Frequency,time\n"]
    for k, (at, value) in enumerate(zip(clock(n, 2, datetime(2026, 4, 28, 11)), hz(n), strict=True)):
        live = k < 40
        volts = [27_100.5, 27_180.25, 27_170.0] if live else [32.2, 23.5, 32.9]
        cell = "" if k in (3, 17) else f"{value:.3f}" if live else f"{max(40.0, 47.3 - 0.4 * (k - 40)):.3f}"
        rows.append(",".join([*map(str, volts), cell, f"{at:%d-%b-%Y %H:%M:%S}"]) + "\n")
    return "".join(rows)


def world(n: int = 30) -> str:
    """Fifteen places at once, deviations in mHz, times of day only."""
    places = ["CAP", "TEX", "CAN", "LIS", "SAL", "STO", "TAL", "VES", "REY", "LON", "SIC", "KK", "LAU", "SPL", "PET"]
    rows = [f",TIME,{','.join(places)}^\r\n".replace("^", "")]
    deviation = np.random.default_rng(SEED).normal(0.0, 40.0, (n, len(places)))
    for k, at in enumerate(clock(n)):
        rows.append(f"{k},{at:%H:%M:%S},{','.join(f'{value:.5f}' for value in deviation[k])}\r\n")
    return "".join(rows)


def laboratory() -> str:
    """A PMU's own table: BOM on every row, decimal commas, `leer`, gaps, and a clock that cannot be trusted."""
    seconds = [*range(20), *range(36, 60)]
    rows = [["22.06.2026", f"00:00:{s:02d}", f"{value:.3f}"] for s, value in zip(seconds, hz(44), strict=True)]
    rows[5][2] = rows[6][2] = "leer"
    rows[9][2] = "0,0"
    rows[12][:2] = rows[11][:2]  # a repeated stamp
    rows[25][0] = "21.08.2026"  # two months ahead, one row
    rows[30][1] = "00:00:02"  # one row from the past
    body = "".join(f"\ufeff{date} {at};{value.replace('.', ',')};49,9\n" for date, at, value in rows)
    return "\ufeffTime;Freq phase A;Freq phase B\n" + body
