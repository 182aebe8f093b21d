"""The question "why this power?" on its way from the API to the worker, and the answer's way back.

The API cannot compute the answer: it takes the columns and the multiplier of one decision, which only the worker
has. So it puts a question on a short list; the worker takes one between ticks, five times a second, and leaves the
answer under a key that expires. A flood of questions drops the oldest of them and costs no tick.
No I/O and no engine here.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import orjson

KEPT: Final = 16  # questions on the list; older ones are dropped
LIST_S: Final = 5  # and all of them when no worker has come for so long
ANSWER_S: Final = 5  # life of an answer
IDENT: Final = re.compile(r"[0-9a-f]{16}")

# What stands in an answer's `refusal`, where there is no explanation.
GONE: Final = "gone"  # the session has ended
UNDECIDED: Final = "undecided"  # nothing has been decided yet
FAILED: Final = "failed"  # the vehicle's numbers do not add up; the worker's log says how


class QuestionError(ValueError):
    """Bytes that are no question."""


class Question(NamedTuple):
    """Asks for the vehicle of one session at one charger; `ident` names the answer."""

    ident: str
    slot: int
    session: int


def asked(area: str) -> str:
    """The list of questions."""
    return f"explain:{area}"


def answered(area: str, ident: str) -> str:
    """The key of one answer."""
    return f"explained:{area}:{ident}"


def encode(question: Question) -> bytes:
    """A question as JSON."""
    return orjson.dumps(question._asdict())


def decode(data: bytes) -> Question:
    """The question that `encode` wrote. Raises QuestionError."""
    try:
        question = Question(**orjson.loads(data))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise QuestionError(str(error)) from None
    ident, slot, session = question
    if not isinstance(ident, str) or not IDENT.fullmatch(ident):
        raise QuestionError("ident: takes 16 hexadecimal digits")
    for name, number in (("slot", slot), ("session", session)):
        # bool is an int too.
        if type(number) is not int or number < 0:
            raise QuestionError(f"{name}: takes a whole number of at least 0")
    return question
