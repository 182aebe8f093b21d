"""The worker's answers to "why this power?", one vehicle at a time, from the decision that stands.

Lies between ticks: a question is taken in the round trip that shows the live figures, and at most one of them, so
that whoever asks much waits and the tick does not.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import orjson
import redis

from aggregator import questions
from aggregator.process import Log
from droop import reasons
from droop.explain import explain
from droop.fleet import Fleet, Wish, allocate
from droop.reasons import Reason
from droop.step import Engine, Tick

OVERRIDE: Final = int(Reason.OVERRIDE)


class Explaining:
    """Takes questions and leaves answers."""

    def __init__(self, client: redis.Redis, area: str, log: Log) -> None:
        self._client, self._area, self._log = client, area, log
        self.answered = self.malformed = 0

    def take(self, pipeline: Any) -> None:
        """Queue the taking of one question; its place in the pipeline's answer holds it, None, or an error."""
        pipeline.lpop(questions.asked(self._area))

    def answer(self, taken: bytes | Exception, engine: Engine, last: Tick | None) -> None:
        """Answer one question; what is none is counted. Raises redis.RedisError.

        taken : what `take` gave; an error where the key holds something other than a list
        last  : the decision to explain; None before the first
        """
        try:
            question = questions.decode(taken if isinstance(taken, bytes) else b"")
        except questions.QuestionError:
            self.malformed += 1
            return
        found = self._found(question, engine, last)
        key = questions.answered(self._area, question.ident)
        self._client.set(key, orjson.dumps(found), ex=questions.ANSWER_S)
        self.answered += 1

    def _found(self, question: questions.Question, engine: Engine, last: Tick | None) -> dict[str, Any]:
        fleet, slot = engine.fleet, question.slot
        if slot >= fleet.state.size or int(fleet.session[slot]) != question.session or not fleet.state[slot]:
            return {"refusal": questions.GONE}
        if last is None:
            return {"refusal": questions.UNDECIDED}
        try:
            return document(engine, last, slot)
        except ValueError as error:
            self._log.error("vehicle cannot be explained", slot=slot, error=str(error))
            return {"refusal": questions.FAILED}


def document(engine: Engine, last: Tick, slot: int) -> dict[str, Any]:
    """One vehicle's power in the decision `last`, JSON-ready; powers in kW, positive into the grid.

    The fields of `droop.explain.Explanation`, the bounds behind those of the split (the vehicle's own, its rating),
    the owner's wish, and of which decision all this is said. Raises ValueError where a number is not finite.
    """
    fleet, price = engine.fleet, engine.price
    # One value may stand for all, none for no price.
    paid = np.broadcast_to(price, fleet.state.shape) if price.size else None
    explanation = explain(fleet, slot, last.lam, last.request_kw, paid)
    t_ns = int(engine.last_ns[0])
    return {
        **explanation.to_dict(),
        "slot": slot,
        "session": int(fleet.session[slot]),
        "t_ns": t_ns,
        "request_kw": last.request_kw,
        "own_lo_kw": float(fleet.free_lo_kw[slot]),
        "own_hi_kw": float(fleet.free_hi_kw[slot]),
        "own_reason_down": reasons.name(int(fleet.own_down[slot])),
        "own_reason_up": reasons.name(int(fleet.own_up[slot])),
        "rated_lo_kw": -float(fleet.charge_max_kw[slot]),
        "rated_hi_kw": float(fleet.discharge_max_kw[slot]),
        **wished(fleet, slot, t_ns),
    }


def wished(fleet: Fleet, slot: int, t_ns: int) -> dict[str, Any]:
    """The owner's wish in force at `t_ns`, and the rated power it takes either way [kW, both at least 0].

    Counted as `aggregator.withheld` counts: all that lies between rating and own bound, where the wish sets the bound.
    """
    until_ns = int(fleet.wish_until_ns[slot])
    wish = Wish(int(fleet.wish[slot])) if t_ns < until_ns else Wish.NONE
    up = float(fleet.discharge_max_kw[slot]) - float(fleet.free_hi_kw[slot])
    down = float(fleet.free_lo_kw[slot]) + float(fleet.charge_max_kw[slot])
    return {
        "wish": wish.name.lower(),
        "wish_until_ns": until_ns if wish else 0,
        "wish_up_kw": max(up, 0.0) if fleet.own_up[slot] == OVERRIDE else 0.0,
        "wish_down_kw": max(down, 0.0) if fleet.own_down[slot] == OVERRIDE else 0.0,
    }


def warm() -> None:
    """Compile, or load, what an answer takes, so that the first question delays no sample."""
    fleet = allocate(2)
    fleet.hi_kw[:] = fleet.free_hi_kw[:] = fleet.slope_up[:] = fleet.discharge_max_kw[:] = 1.0
    fleet.hi_kw[0] = 0.5
    explain(fleet, 0, 1.0, 1.0)
