"""`python -m tests.fuzz [HARNESS ...] [--seconds S] [--out FOLDER]`: each decoder under guided fuzzing for a while.

With atheris (libFuzzer's engine for Python) the run follows coverage; it is an optional dependency that `make fuzz`
installs in a folder of its own. Without it, seeds are mutated blindly for as long, which finds less and says so. What
is found is written to FOLDER as `HARNESS-crash-...`; a file given instead of a harness is taken once more, to look at.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

NAMES: Final = ("wire", "journal", "setpoints", "c37118", "goose", "traces")


def guided(name: str, seconds: int, folder: Path) -> None:
    """One harness in this process, which it ends."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["telemetry", "aggregator"]):
        harness = importlib.import_module("tests.fuzz.harnesses").HARNESSES[name]
    corpus = folder / f"{name}-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(harness.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([name, *limits, f"-artifact_prefix={folder}/{name}-", str(corpus)], harness.take)
    atheris.Fuzz()


def blind(name: str, seconds: float, folder: Path, seed: int = 1) -> int:
    """Seeds with octets changed, cut out and doubled; how many were taken. What raises is written and raised."""
    harness = importlib.import_module("tests.fuzz.harnesses").HARNESSES[name]
    rng, end_s, count = random.Random(seed), time.monotonic() + seconds, 0  # noqa: S311 - no secret
    while time.monotonic() < end_s:
        octets = mutated(rng, rng.choice(harness.seeds))
        count += 1
        try:
            harness.take(octets)
        except Exception:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}-crash-{count}").write_bytes(octets)
            raise
    return count


def mutated(rng: random.Random, octets: bytes) -> bytes:
    """Some octets changed, cut out or doubled."""
    made = bytearray(octets)
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(made))
        match rng.randint(0, 3):
            case 0 if made:
                made[at % len(made)] = rng.randint(0, 255)
            case 1:
                made[at:at] = made[at : at + rng.randint(1, 16)]
            case 2:
                del made[at : at + rng.randint(1, 16)]
            case _:
                made[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"nan,"))
    return bytes(made)


def main() -> int:
    """Every harness named, one after the other; 1 if any of them found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", default=NAMES, help="harnesses, or HARNESS=FILE to take one file")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        guided(given.names[0], given.seconds, given.out)
    follows = importlib.util.find_spec("atheris") is not None
    if not follows:
        print("atheris is not there: seeds are mutated without regard to coverage", file=sys.stderr)
    found = []
    for name in given.names:
        harness, _, file = name.partition("=")
        if file:
            importlib.import_module("tests.fuzz.harnesses").HARNESSES[harness].take(Path(file).read_bytes())
        elif follows:
            alone = [sys.executable, "-m", "tests.fuzz", name, "--alone", f"--seconds={given.seconds}"]
            ended = subprocess.run([*alone, f"--out={given.out}"], env={**os.environ}, check=False)
            found += [name] if ended.returncode else []
        else:
            print(f"{name}: {blind(name, given.seconds, given.out)} taken", file=sys.stderr)
    print(f"found something: {', '.join(found)}" if found else "nothing found", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
