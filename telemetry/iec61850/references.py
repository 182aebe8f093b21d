"""Names in an IED's model: which report control blocks to try, which members concern us. Pure."""

from __future__ import annotations

import re
from typing import Final

INSTANCES: Final = 3  # indexed blocks tried, from the one named on


def candidates(report_block: str, buffered: bool = False) -> list[str]:
    """The named report control block and its next instances: a block serves one client (7-2 17.2.2).

    "LD/LLN0.RP.urcb01" -> urcb01, urcb02, urcb03; a name without a two-digit index stands alone.
    Raises ValueError for a reference that is not one of a report control block, or of a buffered one where it must be.
    """
    if buffered and not re.fullmatch(r"[^/.]+/[^/.]+\.BR\.[^/.]+", report_block):
        raise ValueError(f"history_block {report_block!r}: give LD/LN.BR.name, a buffered report control block")
    if not re.fullmatch(r"[^/.]+/[^/.]+\.(RP|BR)\.[^/.]+", report_block):
        raise ValueError(f"report_block {report_block!r}: give LD/LN.RP.name or LD/LN.BR.name")
    indexed = re.fullmatch(r"(.*\D)(\d\d)", report_block)
    if not indexed:
        return [report_block]
    first = int(indexed[2])
    return [f"{indexed[1]}{number:02d}" for number in range(first, min(first + INSTANCES, 100))]


def concerns(member: str, ref: str) -> bool:
    """Whether a data set member is `ref`, lies inside it, or holds it."""
    return member == ref or member.startswith(f"{ref}.") or ref.startswith(f"{member}.")


def reference_of(domain: str, item: str) -> tuple[str, str]:
    """(reference, functional constraint) of an MMS name: MMXU1$MX$Hz in LD -> ("LD/MMXU1.Hz", "MX")."""
    node, _, path = item.partition("$")
    constraint, _, path = path.partition("$")
    return f"{domain}/{node}.{path.replace('$', '.')}", constraint
