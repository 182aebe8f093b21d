"""The keys that sign evidence: private files beside the other keys, made when absent.

They are numbered, and the highest signs; those before it stay, for the ledger goes on from what they signed. The public
half lies beside each (`evidence-N.pub`), to be handed to whoever verifies.
"""

from __future__ import annotations

from pathlib import Path

from aggregator.keys import KeyFault, make_private, private
from settlement.ledger import SEED_BYTES, Key


def evidence_keys(folder: Path) -> list[Key]:
    """The keys that have signed evidence, the one that signs now last; the first one is made if there is none.

    Raises KeyFault for a file that others can read, or that is no key.
    """
    paths = sorted(folder.glob("evidence-*.key"), key=_number)
    if not paths:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = [folder / "evidence-1.key"]
        make_private(paths[0])
    keys = [Key(private(path)[:SEED_BYTES]) for path in paths]
    for path, key in zip(paths, keys, strict=True):
        published = path.with_suffix(".pub")
        if not published.exists():
            published.write_text(key.public + "\n", encoding="ascii")
            published.chmod(0o600)  # public, but in a folder where nothing is for others
    return keys


def next_key(folder: Path) -> Key:
    """Make the key that signs from the next start on; the one before it will vouch for it."""
    last = max((_number(path) for path in folder.glob("evidence-*.key")), default=0)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_private(folder / f"evidence-{last + 1}.key")
    return evidence_keys(folder)[-1]


def _number(path: Path) -> int:
    digits = path.stem.removeprefix("evidence-")
    if not digits.isdecimal():
        raise KeyFault(f"{path}: takes a number after `evidence-`; rename it, or move it away")
    return int(digits)
