"""A writer of evidence that is killed: run by `test_sealing` as a process of its own.

    python -m tests.aggregator.evidence_victim FOLDER ROUNDS SEED

Forks a writer a round. Each goes on where the file ends, seals what is not sealed yet, and is killed with SIGKILL after
so many bytes or calls, or by the parent's clock. Prints one JSON document.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from aggregator.evidence_files import EvidenceFiles
from settlement.ledger import Key
from tests.settlement.sealed import NS, batch

KEYS = [Key(b"\x07" * 32)]
DAY_S = 86_400
BATCHES = 9


def keys_of(k: int) -> str:
    return f"{1_700_000_100 * NS + 3 * k * NS}:ce_fcr"


def fill(k: int):
    """A batch of three seconds and some vehicles."""

    def add(ledger, contract):
        now = [{"product": {"id": "ce_fcr"}, "sold_kw": 1000.0}]
        if contract != now:
            ledger.record("contract", {"from_ns": 0, "contracts": now}, NS)
        return {keys_of(k): batch(ledger, k, 3 + k)}, now

    return add


def day(k: int) -> str:
    return f"2023-11-{14 + k // 3}"


def life(folder: Path) -> None:
    """Seal what is not sealed; three intervals a day."""
    files = EvidenceFiles(folder, KEYS, "ce")
    for k in range(BATCHES):
        if keys_of(k) not in files.sealed and done(folder) <= k:
            files.append(day(k), fill(k), (k + 1) * NS)
    files.close(NS)


def done(folder: Path) -> int:
    """How many intervals all files hold; `sealed` reaches back two days only."""
    return sum(path.read_bytes().count(b'"kind":"statement"') for path in folder.glob("*.jsonl"))


def mortal(steps: int | None) -> None:
    """Every byte written, and every other call that touches the disk, is a step towards the end."""
    left = [steps if steps is not None else 1 << 60]
    real_write = os.write

    def write(handle: int, data) -> int:
        data = bytes(data)[:64]
        if left[0] <= len(data):
            real_write(handle, data[: left[0]])
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= len(data)
        return real_write(handle, data)

    def counted(real):
        def call(*args, **kwargs):
            left[0] -= 30
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    os.write = write
    for owner, name in ((os, "fsync"), (os, "ftruncate"), (Path, "unlink"), (Path, "mkdir"), (os, "open")):
        setattr(owner, name, counted(getattr(owner, name)))


def main() -> None:
    """Rounds of kills; a ledger that was finished is followed by the next."""
    folder, rounds, rng = Path(sys.argv[1]), int(sys.argv[2]), np.random.default_rng(int(sys.argv[3]))
    killed = ledgers = 0
    for _ in range(rounds):
        home = folder / str(ledgers)
        steps = int(rng.integers(1, 22_000)) if rng.random() < 0.8 else None
        pid = os.fork()
        if pid == 0:
            try:
                mortal(steps)
                life(home)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        if steps is None:
            time.sleep(rng.random() * 0.02)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            continue
        if os.WEXITSTATUS(status):
            raise SystemExit(f"round in {home} failed")
        ledgers += 1
    print(json.dumps({"killed": killed, "ledgers": ledgers}))


if __name__ == "__main__":
    main()
