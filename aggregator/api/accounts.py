"""A vehicle's account of the interval closed last, for its driver: read from the settlement's record, told in words.

The record is read again when it is older than a moment, once for all who ask: of a large fleet it is megabytes, and it
changes once in a quarter of an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from redis.asyncio import Redis

from aggregator import accountview
from aggregator.api.errors import Refusal, StoreLost
from aggregator.api.feed import STORE_ERRORS
from aggregator.records import Block
from settlement.accounts import ACCOUNT
from settlement.driver import DriverError, statement

KEEP_S: Final = 5.0


class Accounts:
    """The last record, and how old our copy of it is."""

    def __init__(self, store: Redis, area: str, mono_s: Callable[[], float]) -> None:
        self._store, self._key, self._mono_s = store, accountview.key(area), mono_s
        self._rows: Block = np.zeros(0, ACCOUNT)
        self._read_s = -KEEP_S
        self._lock = asyncio.Lock()

    async def of(self, vehicle: str) -> dict[str, Any]:
        """One vehicle's statement, energies alone.

        Raises Refusal: 404 where it has no account in that interval, 503 for a record that cannot be read; StoreLost.
        """
        rows = await self._current()
        try:
            return statement(vehicle[:64], rows)
        except DriverError as error:
            remedy = "accounts are closed once a quarter of an hour; `flyball account` looks further back"
            raise Refusal(
                404, f"{vehicle[:40]!r} has no account in the interval closed last", "vehicle", remedy
            ) from error

    async def _current(self) -> Block:
        async with self._lock:
            if self._mono_s() - self._read_s >= KEEP_S:
                try:
                    data: Any = await self._store.get(self._key)
                    self._rows = accountview.decode(data) if data else np.zeros(0, ACCOUNT)
                except STORE_ERRORS as error:
                    raise StoreLost() from error
                except accountview.AccountViewError as error:
                    text = f"the settlement's record cannot be read: {error}"
                    raise Refusal(503, text, "settle", "run one version everywhere") from error
                self._read_s = self._mono_s()
            return self._rows
