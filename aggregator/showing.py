"""What a worker shows of itself: live figures five times a second, the fleet once, an answer where one is asked.

Alarms that need a look at the whole fleet, or at the ingests, are set here as well, once a second. Nothing of it is
part of a decision; the fleet's snapshot goes by a thread of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import orjson
import redis

from aggregator import explained, figures, managing, views
from aggregator.aside import Aside
from aggregator.core import Aggregator
from aggregator.frequency import Frequency
from aggregator.oversold import Oversold
from aggregator.process import Log
from telemetry.redis_stream import connect

LIVE_S: Final = 0.2
SURVEY_S: Final = 1.0


class Showing:
    """The figures of one worker on their way to the store. due_s : when the live ones are due, monotonic"""

    def __init__(self, client: redis.Redis, url: str, area: str, frequency: Frequency, log: Log) -> None:
        self._client, self._area, self._frequency, self._log = client, area, frequency, log
        self._aside = Aside("view")
        self._aside_client = connect(url)
        self._explaining = explained.Explaining(client, area, log)
        self._oversold = Oversold()
        self._slow: dict[str, Any] = {}
        self._view_due = False
        self.due_s = self._survey_due_s = time.monotonic()

    def show(self, core: Aggregator, now_s: float, told: Callable[[], dict[str, Any]]) -> bool:
        """What is due; whether the live figures were. Raises redis.RedisError.

        now_s : monotonic; told : what the process adds to the core's figures
        """
        if now_s < self.due_s:
            self._view(core)
            return False
        now_ns = time.time_ns()
        if now_s >= self._survey_due_s:
            self._survey_due_s = now_s + SURVEY_S
            self._slow = figures.survey(core, now_ns)
            self._supervise(core, now_ns)
            self._view_due = True
        self.due_s = now_s + LIVE_S
        live = orjson.dumps(self._live(core, now_ns, told()), option=orjson.OPT_SERIALIZE_NUMPY)
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.set(f"live:{self._area}", live)
            self._explaining.take(pipeline)
            shown, question = pipeline.execute(raise_on_error=False)
        if isinstance(shown, redis.RedisError):
            raise shown
        if question is not None:
            self._explaining.answer(question, core.engine, core.last)
        return True

    def figures(self) -> dict[str, int]:
        """Counters of the answers given."""
        return {"explained": self._explaining.answered, "questions_malformed": self._explaining.malformed}

    def close(self) -> None:
        """Wait for what is on its way."""
        self._aside.close()

    def _view(self, core: Aggregator) -> None:
        """The fleet's snapshot for the API, in a step of its own; bringing it to the store is nobody's wait."""
        if self._view_due and not self._aside.busy:
            self._view_due = False
            now_ns = time.time_ns()
            data = views.encode(now_ns, figures.fleetview(core, now_ns))
            self._aside.offer(lambda: self._aside_client.set(f"fleetview:{self._area}", data))

    def _supervise(self, core: Aggregator, now_ns: int) -> None:
        held = self._slow["reserved"]
        core.supervise(held["short"], now_ns)
        core.vouch(self._frequency.missed(now_ns), self._frequency.disagreeing(now_ns), now_ns)
        if said := self._oversold.text(core, lambda: held, now_ns):
            self._log.warning(said)

    def _live(self, core: Aggregator, now_ns: int, told: dict[str, Any]) -> dict[str, Any]:
        shown = figures.live(core, now_ns, self._slow)
        return {**shown, **told, "rejected": dict(Counter(shown["rejected"]) + told["rejected"])}


def totals(core: Aggregator, refused: Counter[str]) -> dict[str, Any]:
    """What a core's life has come to. refused : by the worker, besides what the core refused"""
    sums = core.sums
    return {
        "ticks": sums.ticks,
        "commands": sums.commands,
        "rejected": dict(Counter(core.rejected()) + refused),
        "requested_kwh": sums.requested_up_kwh + sums.requested_down_kwh,
        "delivered_kwh": sums.delivered_up_kwh + sums.delivered_down_kwh,
        "unserved_kwh": sums.unserved_kwh,
        "max_sum_error_kw": sums.max_sum_error_kw,
        "bound_violations": sums.bound_violations,
        "trips": sums.trips,
        "alarms": core.alarms.raised,
        "modes": managing.seconds(core.modes()),
    }
