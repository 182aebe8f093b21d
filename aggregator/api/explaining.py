"""Asks the worker why a vehicle got its power, and waits for the answer: briefly, and for few at a time.

Questions about one vehicle that overlap are asked once. The worker takes five a second, so as many as can be
answered within the wait are let in; the next client hears at once that it is too many.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from aggregator import questions
from aggregator.api.errors import Refusal, StoreLost
from aggregator.api.feed import STORE_ERRORS
from aggregator.api.settings import Settings
from aggregator.api.wishes import find
from aggregator.views import Rows

WAITING_MAX: Final = 8
LOOK_S: Final = 0.05
RETRY: Final = {"Retry-After": "2"}


class Explainer:
    """Questions under way, by session; each is asked by a task of its own that all who wait share."""

    def __init__(self, store: Redis, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._waiting: dict[tuple[int, int], asyncio.Task[dict[str, Any]]] = {}

    async def ask(self, slot: int, session: int) -> dict[str, Any]:
        """The worker's answer, checked for nothing but that it is one.

        Raises Refusal: 404 where the session has ended, 503 where nobody answers, too many ask, or there is
        nothing to say yet; StoreLost.
        """
        key = slot, session
        task = self._waiting.get(key)
        if task is None:
            if len(self._waiting) >= WAITING_MAX:
                raise Refusal(503, "too many explanations at a time", None, "retry in a few seconds", RETRY)
            task = self._waiting[key] = asyncio.create_task(self._asked(slot, session))
            task.add_done_callback(lambda _: self._waiting.pop(key, None))
        # Shielded: a client that hangs up takes the answer from nobody else.
        answer = await asyncio.shield(task)
        refusal = answer.get("refusal")
        if refusal == questions.GONE:
            raise Refusal(404, "the vehicle has just left", "vehicle", "GET /v1/vehicles lists those that are here")
        if refusal == questions.UNDECIDED:
            raise Refusal(503, "nothing has been decided yet", "worker", "retry once /v1/status shows ticks", RETRY)
        if refusal is not None:
            raise Refusal(503, f"the worker could not explain it: {refusal}", "worker", "see the worker's log")
        return answer

    async def _asked(self, slot: int, session: int) -> dict[str, Any]:
        area, wait_s = self._settings.area, self._settings.explain_wait_s
        question = questions.Question(secrets.token_hex(8), slot, session)
        key = questions.asked(area)
        try:
            async with self._store.pipeline(transaction=False) as pipe:
                pipe.rpush(key, questions.encode(question))
                pipe.ltrim(key, -questions.KEPT, -1)
                pipe.expire(key, questions.LIST_S)
                await pipe.execute()
            for _ in range(max(1, round(wait_s / LOOK_S))):
                await asyncio.sleep(LOOK_S)
                data: Any = await self._store.get(questions.answered(area, question.ident))
                if data is not None:
                    return _table(data)
        except STORE_ERRORS as error:
            raise StoreLost() from error
        remedy = "see ages and processes in /v1/status; check that `flyball worker` runs, in the version of the API"
        raise Refusal(503, f"the worker did not answer within {wait_s:g} s", "worker", remedy, RETRY)


def charger(vehicle: str, slot: int | None, rows: Rows) -> tuple[int, int, list[int]]:
    """(slot, session, all chargers that give this name) of a vehicle that is plugged in.

    slot : which of several; the first when left out. Raises Refusal 404. rows : FLEETVIEW[n]
    """
    here = find(vehicle, rows)
    slots = here["slot"].tolist()
    if slot is not None:
        here = here[here["slot"] == slot]
        if not here.size:
            raise Refusal(404, f"{vehicle[:40]!r} is not at charger {slot}", "slot", f"it is at {slots}"[:200])
    return int(here["slot"][0]), int(here["session"][0]), slots


def _table(data: bytes) -> dict[str, Any]:
    try:
        table = orjson.loads(data)
    except orjson.JSONDecodeError:
        table = None
    return table if isinstance(table, dict) else {"refusal": "no JSON object"}
