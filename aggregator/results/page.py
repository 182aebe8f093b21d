"""A run as one page to look at: how it scored and earned, what the drivers found, what it wore, what was odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aggregator.results import charts, html
from aggregator.results.html import section, table, tiles
from aggregator.results.rows import LAWS

Row = Mapping[str, Any]


class Shown(NamedTuple):
    """What a page is made of.

    result     : the run's result, with its `days`
    series     : frequency, power asked and power given: (t_ns, value) each, the last two relative to the baseline
    statements : of the run
    spans      : SPAN[n]
    facts      : figures in words, for the table
    """

    title: str
    result: Row
    series: tuple[Any, Any, Any]
    statements: Sequence[Any]
    spans: Any
    facts: Mapping[str, str]


def write(path: Path, shown: Shown) -> None:
    """The page into a file."""
    path.write_text(page(shown), encoding="utf-8")


def page(shown: Shown) -> str:
    """The page as HTML."""
    result, days = shown.result, shown.result["days"]
    first, last = (days[0]["start"], days[-1]["end"]) if days else ("-", "-")
    parts = [
        f"<h1>{html.escape(shown.title)}</h1>",
        f"<p class=sub>{html.escape(str(result['format']))}, {result['samples']} rows, days of the market from "
        f"{html.escape(first)} to {html.escape(last)}. Every number is in the files beside this page.</p>",
        tiles(_first(result)),
        section(
            "Frequency and response", charts.response(*shown.series),
            "Lines of the frequency, and of the power asked and given relative to the declared baseline.",
        ),
        section(
            "Score of each interval", charts.intervals(shown.statements), "One point for each settlement interval.",
        ) if any(item.score is not None for item in shown.statements) else "",
        *_daily(days),
        section(
            "State of charge", charts.fan(shown.spans),
            "The fleet's median state of charge, and the band in which nine tenths of the cars lie.",
        ),
        _drivers(result["drivers"]),
        _wear(result["wear"]),
        _worst(result["worst_blocks"]),
        _trace(result["trace"]),
        section("In sum", None, "", table("the whole run", ("", ""), list(shown.facts.items()))),
    ]  # fmt: skip
    return html.page(shown.title, parts)


def _first(result: Row) -> dict[str, str]:
    drivers, laws = result["drivers"], result["wear"]
    score = "none" if result["score"] is None else f"{result['score']:.4f}"
    income = result.get("income", {"totals": []})["totals"]
    currency = laws["currency"]
    return {
        "score": score,
        **{f"income, {item['product']}": f"{item['amount']} {item['currency']}" for item in income},
        "asked up / down, kWh": f"{result['requested_up_kwh']:.5g} / {result['requested_down_kwh']:.5g}",
        "given up / down, kWh": f"{result['delivered_up_kwh']:.5g} / {result['delivered_down_kwh']:.5g}",
        "unserved, kWh": f"{result['unserved_kwh']:.4g}",
        "cars that left short": f"{drivers['left_short']} of {drivers['left']}",
        **{f"wear by regulation, {law.upper()} [M]": f"{laws[law]['marginal_cost']:.3g} {currency}" for law in LAWS},
    }


def _daily(days: Sequence[Row]) -> list[str]:
    if not days:
        return []
    paid = "amount" in days[0]
    head = ("day", "product", "sold, kW", "score", "available", *(("income",) if paid else ()))
    judged = [
        (row["day"], row["product"], row["sold_kw"], row["score"], _share(row["available_frac"]),
         *((row["amount"],) if paid else ()))
        for row in days
    ]  # fmt: skip
    moved = [
        (row["day"], row["product"], *(row[name] for name in (
            "requested_up_kwh", "requested_down_kwh", "delivered_up_kwh", "delivered_down_kwh", "unserved_kwh")))
        for row in days
    ]  # fmt: skip
    parts = [
        section(
            "Score and income by day", charts.scores(days), "Score of each day, with its income where it was priced.",
            table("by day of the market", head, judged),
        ),
        section(
            "Energy by day", charts.energy(days), "Bars of the energy asked and given, up above and down below.",
            table(
                "kWh", ("day", "product", "asked up", "asked down", "given up", "given down", "unserved"), moved,
            ),
        ),
    ]  # fmt: skip
    reasons = sorted({name for row in days for name in row["unserved_by_reason"]})
    if reasons:
        lost = [(row["day"], *(row["unserved_by_reason"].get(name, 0.0) for name in reasons)) for row in days]
        parts.append(section(
            "Not served, by reason", charts.unserved(days), "Stacked bars of the energy not served, by reason.",
            table("kWh", ("day", *(name.replace("_", " ") for name in reasons)), lost),
        ))  # fmt: skip
    return parts


def _share(frac: float | None) -> str | None:
    return None if frac is None else f"{100 * frac:.2f} %"


def _drivers(drivers: Row) -> str:
    names = ("stays", "left_short", "left_short_kwh", "owed_short", "owed_short_kwh")
    rows = [(how, *(found[name] for name in names)) for how, found in drivers["by_departure"].items()]
    return section(
        "Departures", charts.satisfied(drivers["satisfied"]),
        "How many stays ended with which part of the energy that the driver had asked for.",
        table("departures as told", ("departure", "stays", "short", "by kWh", "short of owed", "by kWh"), rows),
        "Short: less aboard than the driver wanted. Owed: at most what charging at the rating from the first moment "
        "on would have given, so that what nobody could have met is left out.",
    )  # fmt: skip


def _wear(told: Row) -> str:
    rows = [
        (law.upper(), told[law]["law"], told[law]["cost"], told[law]["marginal_cost"],
         1e6 * told[law]["regulation_life_frac"])
        for law in LAWS
    ]  # fmt: skip
    head = ("battery", "law", f"cost, {told['currency']}", "of it regulation", "regulation, millionths of a life")
    price = f"{told['battery_price_per_kwh']:g} {told['currency']} a kilowatt-hour of battery [M]"
    return section(
        "Wear", charts.wear(told, LAWS), "Shares of a battery's life by chemistry, with regulation and without.",
        table(price, head, rows), f"Assumed: {'; '.join(told['assumes'])}.",
    )  # fmt: skip


def _worst(blocks: Sequence[Row]) -> str:
    head = ("from", "block", "product", "score", "available", "asked, kWh", "given, kWh", "unserved, kWh", "gaps, s")
    rows = [
        (row["start"], row["block"], row["product"], row["score"], _share(row["available_frac"]),
         row["requested_up_kwh"] + row["requested_down_kwh"], row["delivered_up_kwh"] + row["delivered_down_kwh"],
         row["unserved_kwh"], row["gap_s"])
        for row in blocks
    ]  # fmt: skip
    return section("Worst blocks", None, "", table("lowest score first", head, rows))


def _trace(told: Row) -> str:
    gaps = told["gaps"]
    parts = [
        table("what was odd, in rows", ("", ""), [
            ("rows", told["rows"]), ("usual time between two [s]", told["period_s"]),
            ("stamps said twice", told["duplicates"]),
            *((f"refused: {name.replace('_', ' ')}", count) for name, count in sorted(told["rejected"].items())),
            ("gaps", gaps["count"]), ("missing in them [s]", gaps["total_s"]),
        ]),
    ]  # fmt: skip
    if gaps["listed"]:
        rows = [(gap["start"], gap["end"], gap["missing_s"]) for gap in gaps["listed"]]
        parts.append(table("gaps: from the last row before to the first after", ("from", "to", "missing, s"), rows))
    if told["stretches"]:
        refused = [(item["start"], item["end"], item["reason"], item["rows"]) for item in told["stretches"]]
        parts.append(table("rows refused", ("from", "to", "why", "rows"), refused))
    return section("The trace", None, "", "".join(parts))
