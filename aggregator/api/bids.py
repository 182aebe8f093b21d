"""Bids over the API: asked of a process of their own, because a history takes long to read and much memory.

One at a time, the last answers kept for a while: history grows by a slice a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import Field

from aggregator.api.endpoints import Param
from aggregator.api.errors import Refusal
from aggregator.api.models import Answer
from aggregator.api.settings import Settings

KEEP_S: Final = 900.0
KEPT: Final = 32
BUSY: Final = {"Retry-After": "10"}

BIDS_PARAMS: Final = (
    Param("product", "by id"),
    Param("date", "day of the product's market, YYYY-MM-DD; tomorrow"),
    Param("confidence", "that what is offered will be there, of each block", "0.99"),
)


class BidBlock(Answer):
    """One block's offer; `offer_kw` plus all cuts is `expected_kw`."""

    start_ns: int
    end_ns: int
    block: str = Field(description="as the market calls it")
    offer_kw: float
    firm_kw: float = Field(description="what the rule stands for, before the market's rounding")
    mean_kw: float = Field(description="expected to be available")
    expected_kw: float = Field(description="the same with energy without end")
    cuts_kw: dict[str, float] = Field(description="by reason: energy, quantile, drift, step, minimum")


class BidsAnswer(Answer):
    """Bids for a day, and how the rule did on its own history."""

    products: list[dict[str, Any]]
    date: str
    confidence: float
    blocks: list[BidBlock]
    history: dict[str, Any]
    assumed: list[str]
    correlation: dict[str, float] | None = Field(description="of presence: rho and its standard error")
    backtest: dict[str, Any] | None = Field(description="exceeded blocks and tests; None where history is too short")
    backtest_note: str = ""


class Bids:
    """Asks for bids and keeps what came."""

    def __init__(self, settings: Settings, now_ns: Callable[[], int], mono_s: Callable[[], float]) -> None:
        self._folder, self._wait_s = settings.history, settings.bids_wait_s
        self._now_ns, self._mono_s = now_ns, mono_s
        self._kept: dict[tuple[str, str, str], tuple[float, dict[str, Any]]] = {}
        self._lock = asyncio.Lock()

    async def of(self, product: str, day: str, confidence: str) -> dict[str, Any]:
        """Bids for a day.

        Raises Refusal: 400 for a parameter that cannot be read, 404 for a product that is not known and where this
        process has no history, 409 for a history that is too short, 503 where others ask, or it takes too long.
        """
        if not product:
            raise Refusal(400, "no product", "product", "name one, as `flyball products` lists them")
        if product.endswith(".toml"):
            raise Refusal(400, "a file is no product here", "product", "give the id of one of the catalogue")
        if self._folder is None or not (self._folder / "journal").is_dir():
            raise Refusal(404, "this process has no history", "product", "ask one beside a run's journal")
        if self._lock.locked():
            raise Refusal(503, "bids are being made for another", None, "retry in a few seconds", BUSY)
        async with self._lock:
            key = product, day, confidence
            kept = self._kept.get(key)
            if kept is not None and self._mono_s() - kept[0] < KEEP_S:
                return kept[1]
            answer = await self._asked(self._folder, product, day, confidence)
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self._mono_s(), answer
            return answer

    async def _asked(self, folder: Path, product: str, day: str, confidence: str) -> dict[str, Any]:
        asked = {
            "folder": str(folder), "product": product, "date": day, "confidence": confidence, "now_ns": self._now_ns()
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aggregator.bidding.asked", orjson.dumps(asked).decode(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            said, _ = await asyncio.wait_for(process.communicate(), self._wait_s)
            told: dict[str, Any] = orjson.loads(said)
        except TimeoutError:
            text = f"bids were not made within {self._wait_s:g} s"
            raise Refusal(503, text, "bids_wait_s", "use `flyball bid` on the run's folder", BUSY) from None
        except orjson.JSONDecodeError as error:
            raise Refusal(503, "bids could not be made", None, "`flyball bid` on the run's folder says why") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if told["status"] != 200:
            raise Refusal(told["status"], told["error"], told["field"], told["remedy"])
        answer: dict[str, Any] = told["answer"]
        return answer
