"""The line for ten minutes at 100 Hz beside a compiler: what is lost, and what came late.

The compiler is Python's own, on the standard library, over and over in a process of its own at normal priority: it
keeps a core busy and its caches dirty. Late is a sample whose commands left more than a period after its stamp.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from benchmarks.measure import Figure

VEHICLES, RATE_HZ = 10_000, 100
COMPILER = """
import compileall, pathlib, sys
folder = pathlib.Path(sys.argv[1])
sources = sorted(folder.glob("*.py"))
while True:
    for path in sources:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
"""


def run(quick: bool) -> list[Figure]:
    """`soak.*`: 60 s quick, ten minutes full."""
    seconds = 60 if quick else 600
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "flyball.toml"
        config.write_text(f'folder = "{folder}/var"\n', encoding="utf-8")
        command = [
            sys.executable, "-m", "aggregator.cli", "run", "--config", str(config), "--vehicles", str(VEHICLES),
            "--rate", str(RATE_HZ), "--no-browser", "--port", "0", "--json", "-", "--seconds",
        ]  # fmt: skip
        subprocess.run([*command, "1"], check=True, capture_output=True)
        compiler = subprocess.Popen([sys.executable, "-c", COMPILER, sysconfig.get_path("stdlib")])
        try:
            done = subprocess.run([*command, str(seconds)], check=True, capture_output=True)
        finally:
            compiler.kill()
            compiler.wait()
    result = json.loads(done.stdout)
    total = result["latency_ms"]["total"]
    against = f"{seconds} s at {RATE_HZ} Hz, {VEHICLES} vehicles, beside a compiler; {result['scheduling']}"
    return [
        Figure("soak.lost", result["samples_lost"], "samples", f"goal 0; of {result['samples_in']}; {against}"),
        Figure(
            "soak.late", result["samples_late"], "samples", f"commands more than {1e3 / RATE_HZ:g} ms after the stamp"
        ),
        Figure("soak.rejected", sum(result["rejected"].values()), "samples", json.dumps(result["rejected"])),
        Figure("soak.latency_p99_ms", total["p99"], "ms"),
        Figure("soak.latency_max_ms", total["max"], "ms"),
    ]
