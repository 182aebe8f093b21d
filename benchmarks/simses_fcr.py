"""SimSES 1.3.12 over a frequency file: one battery under its own German FCR strategy. Run by `benchmarks.studies`.

    python simses_fcr.py FREQUENCY.npy    one value a second [Hz]

Prints steps a second. A script by itself, for an environment of its own: SimSES pins other versions than ours.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
from configparser import ConfigParser
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
POWER_W, ENERGY_WH, INVERTER_W = 1e6, 2e6, 1.25e6


def main() -> None:
    """Time the run alone, not what is set up before it."""
    from simses.main import SimSES

    hz = np.load(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "technical").mkdir()
        (folder / "fcr").mkdir()
        rows = "".join(f"{k},{value:.5f}\n" for k, value in enumerate(hz))
        head = '"""\n# Unit: Hz\n# Timezone: UTC\n# Time: s\n# Sampling in s: 1\n"""\n'
        (folder / "technical" / "frequency.csv").write_text(head + rows)
        os.chdir(folder)  # it writes where it stands
        config = ConfigParser()
        config.read_dict(settings(folder, int(hz.size) - 10))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run = SimSES(f"{folder}/", "fcr", do_simulation=True, do_analysis=False, simulation_config=config)
            begun_s = time.perf_counter()
            run.run_simulation()
            taken_s = time.perf_counter() - begun_s
            run.close()
        os.chdir("/")
    print(json.dumps({"steps_per_s": (hz.size - 10) / taken_s}))


def settings(folder: Path, seconds: int) -> dict[str, dict[str, str]]:
    """1 MW of FCR from a 2 MWh LFP battery, full at 200 mHz, as the other side of the comparison has it."""
    text = "%Y-%m-%d %H:%M:%S"
    return {
        "GENERAL": {
            "START": BEGIN.strftime(text), "END": (BEGIN + timedelta(seconds=seconds - 1)).strftime(text),
            "TIME_STEP": "1", "EXPORT_DATA": "False",
        },
        "ENERGY_MANAGEMENT": {
            "STRATEGY": "FrequencyContainmentReserve", "POWER_FCR": f"{POWER_W:g}", "SOC_SET": "0.5",
        },
        "BATTERY": {"START_SOC": "0.5"},
        "STORAGE_SYSTEM": {
            "STORAGE_SYSTEM_AC": f"system_1,{INVERTER_W:g},600,notton,no_housing,no_hvac\n",
            "ACDC_CONVERTER": "notton,NottonAcDcConverter\n", "HOUSING": "no_housing,NoHousing\n",
            "HVAC": "no_hvac,NoHeatingVentilationAirConditioning\n",
            "STORAGE_SYSTEM_DC": "system_1,no_loss,lib_big\n", "DCDC_CONVERTER": "no_loss,NoLossDcDcConverter\n",
            "STORAGE_TECHNOLOGY": f"lib_big,{ENERGY_WH:g},lithium_ion,SonyLFP\n",
        },
        "PROFILE": {"TECHNICAL_PROFILE_DIR": f"{folder}/technical/", "FREQUENCY_PROFILE": "frequency"},
    }  # fmt: skip


if __name__ == "__main__":
    main()
