"""Bids for whoever asks over the API: a process of its own that answers once, in JSON, on standard output.

A refusal is an answer too: its status is that of HTTP, with the field and the remedy.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import orjson

from aggregator.bidding.answer import Answer
from aggregator.bidding.products import BidError, TooLittle, bundle
from aggregator.bidding.recorded import history
from aggregator.bidding.rule import Rule
from aggregator.process import lower_nice
from droop.products import ProductDateError, ProductError, load
from settlement import calendar


def answered(asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question: folder, product, date (empty: tomorrow), confidence, now_ns."""
    try:
        sold = bundle([load(asked["product"])])
    except ProductError as error:
        return refused(404, error, "product", "`flyball products` lists them")
    today = calendar.day_of(asked["now_ns"], sold.market)
    try:
        day = date.fromisoformat(asked["date"]) if asked["date"] else today + timedelta(days=1)
    except ValueError:
        return refused(400, "not a day", "date", "write it as 2026-01-31")
    try:
        rule = Rule(float(asked["confidence"]))
    except ValueError:
        return refused(400, "not a probability", "confidence", "a number above 0 and below 1, for example 0.99")
    try:
        found = history([Path(asked["folder"])], sold)
        return {"status": 200, "answer": Answer(rule, sold, found, day).document()}
    except ProductDateError as error:
        return refused(409, error, "date", "choose the product whose rules hold then")
    except TooLittle as error:
        return refused(409, error, "history", "let the run go on, or use `flyball bid` on more of its folders")
    except BidError as error:
        return refused(409, error, "date", "choose a later day")


def refused(status: int, error: object, field: str, remedy: str) -> dict[str, Any]:
    """A refusal as the API words it."""
    return {"status": status, "error": str(error), "field": field, "remedy": remedy}


def main() -> int:
    """Answer the question in the first argument."""
    lower_nice(10)
    sys.stdout.buffer.write(orjson.dumps(answered(orjson.loads(sys.argv[1])), option=orjson.OPT_SERIALIZE_NUMPY))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
