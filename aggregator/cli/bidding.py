"""`flyball bid`: what to offer tomorrow, from what was."""

from __future__ import annotations

from dataclasses import replace
from datetime import date as Day
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from aggregator.cli.output import Json, app, console, emit, text, writable
from aggregator.cli.traceoptions import SkipBad, Zone
from aggregator.contracts import CoreSettings, contracts_sold

if TYPE_CHECKING:
    from aggregator.bidding.selling import Seller


@app.command(epilog="Example: flyball bid --product ce_fcr --history var/backtest --date 2026-11-23 --out bids.html")
def bid(
    product: Annotated[list[str], typer.Option(help="Product, by id or .toml file; several are sold together.")],
    history: Annotated[
        list[Path], typer.Option(help="Folder of a backtest or a run, or a file of charging sessions; may be repeated.")
    ],
    date: Annotated[str, typer.Option(help="Day to bid for, of the product's market, YYYY-MM-DD.")],
    confidence: Annotated[float, typer.Option(help="That what is offered will be there, of each block.")] = 0.99,
    how: Annotated[
        str, typer.Option(help="Distribution of the sum: smallest (of model and history), beta_binomial or normal.")
    ] = "smallest",
    lead_h: Annotated[float, typer.Option(help="Not known yet: what ended so long before the day begins [h].")] = 24.0,
    window_days: Annotated[float, typer.Option(help="How far back is learned from [days].")] = 28.0,
    signal: Annotated[Path | None, typer.Option(help="Recorded signal that the drift is learned from.")] = None,
    trace: Annotated[
        list[Path] | None, typer.Option(help="Recorded frequency that the drift is learned from; may be repeated.")
    ] = None,
    round_trip: Annotated[float, typer.Option(help="Efficiency there and back, of the drift.")] = 0.9,
    buy_back: Annotated[bool, typer.Option("--buy-back", help="The baseline undoes the drift meanwhile.")] = False,
    chargers: Annotated[int | None, typer.Option(min=1, help="Of a session file: how many there are.")] = None,
    site: Annotated[str | None, typer.Option(help="Of a session file: only this site.")] = None,
    car_kw: Annotated[float, typer.Option(help="Of a session file: power of charger and car [kW].")] = 11.0,
    car_kwh: Annotated[float, typer.Option(help="Of a session file: usable battery [kWh].")] = 60.0,
    one_way: Annotated[bool, typer.Option("--one-way", help="Of a session file: cars charge only.")] = False,
    tz: Zone = None,
    skip_bad: SkipBad = False,
    out: Annotated[Path | None, typer.Option(help="Page with the offers against quantiles and history.")] = None,
    json: Json = None,
) -> None:
    """Say how much of a product to offer in each block of a day, and how the rule did on its own history."""
    from aggregator.bidding import page, recorded
    from aggregator.bidding.answer import Answer
    from aggregator.bidding.products import bundle
    from aggregator.bidding.rule import Rule
    from aggregator.bidding.stays import Car
    from droop.products import load

    writable(json)
    writable(None if out is None else str(out), "--out")
    day = _day(date)
    sold = bundle([load(name) for name in product])
    sold.check(day)
    drift = _drift(sold, signal, trace or [], tz, round_trip, skip_bad)
    rule = Rule(confidence, how, lead_h, window_days, drift=drift, buy_back=buy_back)  # type: ignore[arg-type]  # checked there
    car = Car(power_kw=car_kw, capacity_kwh=car_kwh, both_ways=not one_way)
    with console.status("reading history"):
        found = recorded.history(history, sold, car, chargers=chargers, site=site, tz=tz, skip_bad=skip_bad)
    with console.status("bidding"):
        answer = Answer(rule, sold, found, day)
    if out is not None:
        out.write_text(page.page(answer), encoding="utf-8")
    emit(answer.document() | ({} if out is None else {"out": str(out)}), json, _shown(answer, page.facts(answer)))


def _day(text: str) -> Day:
    try:
        return Day.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--date {text}: takes a day as 2026-01-31") from None


def _drift(sold: Any, signal: Path | None, traces: list[Path], tz: str | None, frac: float, skip_bad: bool) -> Any:
    """What is learned of the drift, where something to learn from is given."""
    from aggregator.bidding import learning
    from aggregator.signal_file import read
    from telemetry.traces import open_trace

    if not 0.0 < frac <= 1.0:
        raise ValueError(f"--round-trip {frac}: takes an efficiency above 0 and up to 1")
    if signal is not None:
        return learning.of_signal(sold, read(signal, tz=tz, skip_bad=skip_bad), frac)
    if traces:
        return learning.of_traces(sold, [open_trace(path, tz=tz, skip_bad=skip_bad) for path in traces], frac)
    return None


def _shown(answer: Any, facts: dict[str, str]) -> Table:
    """One row a block, and what they rest on below."""
    table = Table(
        title=f"{answer.bundle.name}, {answer.day}, confidence {answer.rule.confidence:g}", title_justify="left",
        caption="\n".join(f"{name}: {value}" for name, value in facts.items()), caption_justify="left",
    )  # fmt: skip
    for name in ("block", "offer kW", "firm", "mean", "cuts"):
        table.add_column(name, justify="left" if name in ("block", "cuts") else "right")
    for bid in answer.bids:
        cuts = {cut.reason: cut.kw for cut in bid.offer.cuts if cut.kw > 1e-9}
        table.add_row(
            bid.block.name, f"{bid.offer.kw:.6g}", f"{bid.offer.firm_kw:.6g}", f"{bid.mean_kw:.6g}", text(cuts)
        )
    return table


def seller_of(
    how: str, settings: CoreSettings, history: list[Path], confidence: float
) -> tuple[CoreSettings, Seller | None]:  # fmt: skip
    """Who sells in a backtest, and the settings it begins with: `--sold bid` sells nothing before a rule says so."""
    if how not in ("fixed", "bid"):
        raise ValueError(f"--sold {how}: takes fixed or bid")
    if how == "fixed":
        if history:
            raise ValueError("--history: goes with --sold bid")
        return settings, None
    from aggregator.bidding import recorded
    from aggregator.bidding.products import bundle
    from aggregator.bidding.rule import Rule
    from aggregator.bidding.selling import ANY_KW, Seller

    rule = Rule(confidence)
    powers = [contract.sold_kw for contract in settings.contracts]
    if not all(powers):
        raise ValueError("sold_kw: with --sold bid it is the proportion of what is sold together; give more than 0")
    sold = bundle([contract.product for contract in settings.contracts], [kw / powers[0] for kw in powers])
    before = recorded.history(history, sold).slices if history else None
    none = contracts_sold(settings.contracts, [0.0] * len(powers))
    # What is sold on a signal changes, and with it what its authority may ask.
    return replace(settings, contracts=none, signal_max_kw=ANY_KW), Seller(rule, sold, before)
