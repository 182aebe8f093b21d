"""GOOSE messages in, frequency rows out: numbers, lives and bits of one control block. Pure: time is passed in.

A change of state (stNum) is a measurement; repetitions (sqNum) say that the publisher lives. What is not taken has a
counter: `gaps` messages that the numbers say were lost, `repeats` repetitions and duplicates, `surprises` what could
not be read or must not be believed, by reason in `refused`. Nothing is kept but the last message.

A state number below the last one is a publisher that began anew, or a message that a third party sent again: it is
refused until the last message's time to live has run out (as IEC 62351-6 has it), and believed then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from telemetry.goose_frame import BITS, FLOAT, UTC, GooseError, Message, Value, decode
from telemetry.iec61850.mapping import frequency_block, quality_from_bits, smallest
from telemetry.samples import Block, Quality

NUMBERS: Final = 1 << 32

Path = tuple[int, ...]


@dataclass(frozen=True)
class Subscription:
    """Which messages, and what of them.

    reference    : of the control block, LD/LLN0$GO$name
    hz, quality, utc : places in the data set, by index, with further indexes into structures; without `utc` the
        message's own time of its state is taken, without `quality` the value counts as good
    volts        : places of phase voltages; none: NaN
    nominal_volt : what is 1.0
    app_id, revision : if given, others are refused
    source       : number of the measuring point
    life_max_s   : longest life of a message, whatever its publisher says
    """

    reference: str
    hz: Path = (0,)
    quality: Path | None = (1,)
    utc: Path | None = (2,)
    volts: tuple[Path, ...] = ()
    nominal_volt: float = 230.0
    app_id: int | None = None
    revision: int | None = None
    source: int = 0
    life_max_s: float = 60.0

    def __post_init__(self) -> None:
        if not (self.reference and self.reference.isascii() and len(self.reference) <= 129):
            raise ValueError(f"reference {self.reference!r}: give that of the control block, LD/LLN0$GO$name")
        places = [self.hz, *self.volts, *(path for path in (self.quality, self.utc) if path is not None)]
        if any(not path or min(path) < 0 for path in places):
            raise ValueError("hz, quality, utc, volts: places are indexes from 0, at least one each")
        if not (math.isfinite(self.nominal_volt) and self.nominal_volt > 0):
            raise ValueError(f"nominal_volt {self.nominal_volt}: give volts above 0")
        if not self.life_max_s > 0:
            raise ValueError(f"life_max_s {self.life_max_s}: give seconds above 0")


class GooseIntake:
    """What one subscriber knows of its publisher."""

    def __init__(self, subscription: Subscription) -> None:
        self._of = subscription
        self._last: Message | None = None
        self._until_s = -math.inf  # the last message's life
        self.reports = self.gaps = self.repeats = self.revivals = 0
        self.refused: Counter[str] = Counter()
        self.last_rx_ns = 0
        self.detail = ""

    @property
    def surprises(self) -> int:
        """Messages not believed."""
        return self.refused.total()

    def alive(self, now_s: float) -> bool:
        """Whether the publisher's last message is still within its life."""
        return now_s <= self._until_s

    def take(self, frame: bytes, rx_ns: int, now_s: float) -> Block | None:
        """FREQUENCY[1] of a new measurement, else None. now_s : monotonic, for lives"""
        try:
            message = decode(frame)
        except GooseError as error:
            self._refuse(f"frame_{error.reason}", str(error))
            return None
        if message is None or message.reference != self._of.reference:
            return None
        self.reports += 1
        self.last_rx_ns = rx_ns
        if not self._fits(message) or not self._in_order(message, now_s):
            return None
        block = self._block(message, rx_ns)
        if block is None:
            return None
        revived = self._last is not None and not self.alive(now_s)
        # Of the same values: a publisher that began anew may be in a state of the same number.
        last = self._last
        repeat = last is not None and last.state == message.state and last.values == message.values
        self.revivals += revived
        self._last = message
        self._until_s = now_s + min(message.life_ms / 1000, self._of.life_max_s)
        if repeat:
            self.repeats += 1
            return None
        return block

    def _fits(self, message: Message) -> bool:
        of = self._of
        if of.app_id is not None and message.app_id != of.app_id:
            return self._refuse("app_id", f"APPID {message.app_id:#06x}, expected {of.app_id:#06x}")
        if of.revision is not None and message.revision != of.revision:
            return self._refuse("revision", f"confRev {message.revision}, expected {of.revision}: its data set changed")
        if message.life_ms == 0:
            return self._refuse("life", "timeAllowedToLive is 0")
        return True

    def _in_order(self, message: Message, now_s: float) -> bool:
        """Whether the numbers go on; counts what they leave out."""
        last = self._last
        if last is None or not self.alive(now_s):
            if last is not None and _ahead(message.state, last.state):
                self._count(last, message)
            return True
        if message.state == last.state:
            if message.sequence <= last.sequence and last.sequence != NUMBERS - 1:
                self.repeats += 1
                return False
            if message.values != last.values:
                return self._refuse("changed", f"state {message.state} was sent with other values before")
        elif not _ahead(message.state, last.state):
            return self._refuse("replayed", f"state {message.state} after {last.state}")
        self._count(last, message)
        return True

    def _count(self, last: Message, message: Message) -> None:
        if message.state == last.state:
            self.gaps += max(0, message.sequence - last.sequence - 1)
        else:
            # Whole states lost count as one message each: how often they were repeated nobody knows.
            self.gaps += (message.state - last.state) % (NUMBERS - 1) - 1 + message.sequence

    def _block(self, message: Message, rx_ns: int) -> Block | None:
        of = self._of
        try:
            hz = _number(message.values, of.hz, "hz")
            bits = b"" if of.quality is None else _octets(message.values, of.quality, BITS, "quality")
            utc = message.utc if of.utc is None else _octets(message.values, of.utc, UTC, "utc")
            volts = smallest(_number(message.values, path, "volts") for path in of.volts)
            block = frequency_block(hz, quality_from_bits(bits), utc, volts, of.nominal_volt, rx_ns, of.source)
        except (LookupError, ValueError) as error:
            self._refuse("member", str(error))
            return None
        flags = (Quality.TEST if message.test else 0) | (Quality.INVALID if message.needs_commissioning else 0)
        block["quality"] |= np.uint16(int(flags))
        return block

    def _refuse(self, reason: str, detail: str) -> bool:
        self.refused[reason] += 1
        self.detail = f"{reason}: {detail}"
        return False


def _ahead(state: int, last: int) -> bool:
    """Whether a state number is a later one: numbers wrap, and skip 0 when they do."""
    return 0 < (state - last) % (NUMBERS - 1) < NUMBERS // 2


def _at(values: Iterable[Value], path: Path, tag: int, what: str) -> Value:
    found = Value(0, tuple(values))
    for index in path:
        if not isinstance(found.value, tuple) or index >= len(found.value):
            raise LookupError(f"{what}: the data set has no place {path}")
        found = found.value[index]
    if found.tag != tag:
        raise ValueError(f"{what}: place {path} holds a {found.tag:#04x}, expected {tag:#04x}")
    return found


def _number(values: tuple[Value, ...], path: Path, what: str) -> float:
    value = _at(values, path, FLOAT, what).value
    return value if isinstance(value, float) else math.nan


def _octets(values: tuple[Value, ...], path: Path, tag: int, what: str) -> bytes:
    value = _at(values, path, tag, what).value
    return value if isinstance(value, bytes) else b""
