"""The sink: the last door before the chargers. It lets a set-point message through once, in order and in time.

Pure: bytes and the time come in, a message or a refusal goes out; it never raises, and a refused message changes
nothing but a counter. Fencing: a message must carry a higher (epoch, sequence) than the last one let through, so that
duplicates, reordering and a worker that lost its lease do no harm (design: "what happens when").

What it does not know: chargers. A row for a car that has left is the gateway's to refuse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from aggregator.setpoints import SetpointError, SetpointMessage, decode

VALIDITY_MAX_NS: Final = 60_000_000_000  # a longer promise would survive the loss of everybody
FUTURE_MAX_NS: Final = 2_000_000_000  # clocks may disagree so much, no more


class Refusal(NamedTuple):
    """Why a message was not let through; `reason` is short and countable."""

    reason: str
    detail: str


class CommandSink:
    """Checks the messages of one command stream.

    keys : key_id -> key
    last : (epoch, sequence) of the last message let through by an earlier life of this sink; None knows of none
    """

    def __init__(self, keys: Mapping[int, bytes], last: tuple[int, int] | None = None) -> None:
        self._keys = dict(keys)
        self.last = last
        self.accepted = 0
        self.refused: Counter[str] = Counter()

    def accept(self, data: bytes, now_ns: int) -> SetpointMessage | Refusal:
        """The message, if it may be applied now.

        Reasons: those of `setpoints.decode`, then `stale_epoch`, `replayed`, `validity`, `expired`, `future`.
        """
        try:
            message = decode(data, self._keys)
        except SetpointError as error:
            return self._refuse(error.reason, str(error))
        refusal = self._order(message) or self._time(message, now_ns)
        if refusal is not None:
            return self._refuse(*refusal)
        self.last = (message.epoch, message.sequence)
        self.accepted += 1
        return message

    def _order(self, message: SetpointMessage) -> Refusal | None:
        if self.last is None:
            return None
        epoch, sequence = self.last
        if message.epoch < epoch:
            return Refusal("stale_epoch", f"epoch {message.epoch}, {epoch} has taken over")
        if message.epoch == epoch and message.sequence <= sequence:
            return Refusal("replayed", f"sequence {message.sequence} of epoch {epoch}, {sequence} was let through")
        return None

    def _time(self, message: SetpointMessage, now_ns: int) -> Refusal | None:
        validity_ns = message.valid_until_ns - message.issued_ns
        if not 0 < validity_ns <= VALIDITY_MAX_NS:
            return Refusal("validity", f"{validity_ns} ns, take more than 0 and at most {VALIDITY_MAX_NS}")
        if now_ns >= message.valid_until_ns:
            return Refusal("expired", f"{now_ns - message.valid_until_ns} ns ago")
        if message.issued_ns - now_ns > FUTURE_MAX_NS:
            return Refusal("future", f"issued {message.issued_ns - now_ns} ns ahead: check the clocks")
        return None

    def _refuse(self, reason: str, detail: str) -> Refusal:
        self.refused[reason] += 1
        return Refusal(reason, detail)
