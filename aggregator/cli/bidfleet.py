"""`flyball bid` for a fleet that options describe: what it had to sell in the days before."""

from __future__ import annotations

from datetime import date as Day
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aggregator.cli.fleetoptions import keys_of

if TYPE_CHECKING:
    from aggregator.bidding.composed import Lived
    from aggregator.bidding.products import Bundle
    from aggregator.bidding.rule import Rule


def by_fleet(history: list[Path] | None, described: dict[str, Any]) -> bool:
    """Whether a fleet that is described stands for a history. Raises ValueError for both, and for neither."""
    given = [name for name, value in described.items() if value is not None]
    if history and given:
        raise ValueError(f"--{given[0].replace('_', '-')}: goes without --history, which says what the fleet was")
    if not history and not {"fleet", "vehicles", "config"} & set(given):
        raise ValueError("--history: give what was, or the fleet with --fleet or --vehicles")
    return not history


def lived_by(
    sold: Bundle, product: list[str], rule: Rule, day: Day, described: dict[str, Any], skip_bad: bool
) -> Lived:  # fmt: skip
    """The days before the bid of the fleet that the options describe."""
    from aggregator.bidding import composed
    from aggregator.cli.backtesting import progress_bar
    from aggregator.compiling import ensure
    from aggregator.config import load
    from aggregator.configured import behaviour, core_settings
    from aggregator.process import logger

    keys = {name: value for name, value in described.items() if name not in ("config", "fleet")}
    loaded = load(
        described["config"], contract=[{"product": name, "sold_kw": 0.0} for name in product],
        **keys_of(described["fleet"], **keys, skip_bad=skip_bad or None),
    )  # fmt: skip
    settings = core_settings(loaded)
    ensure(logger("bid"))
    with progress_bar("fleet") as progress:
        return composed.history(sold, rule, day, settings, loaded.fleet, behaviour(loaded.fleet), progress)
