"""Two runs as one page: what was changed, what came of it, and their days drawn over one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aggregator.results import charts, html
from aggregator.results.comparing import DAILY, Run
from aggregator.results.html import section, table

UNITS: Final = {
    "score": "score", "unserved_kwh": "kWh not served", "throughput_kwh": "kWh moved", "losses_kwh": "kWh lost",
    "cycles": "equivalent full cycles", "commands": "commands", "amount": "income",
}  # fmt: skip


def page(first: Run, second: Run, found: Mapping[str, Any]) -> str:
    """The page as HTML. found : of `comparing.compare`"""
    title = f"{first.name} and {second.name}"
    notes = f"Not comparable: of {' and '.join(found['notes'])}." if found["notes"] else "The same time of one trace."
    changed = [(row["name"], _text(row["a"]), _text(row["b"])) for row in found["asked"]]
    results = [
        (row["name"], row["a"], row["b"], row.get("difference"), row.get("ratio"))
        for row in found["results"] if row["a"] != row["b"]
    ]  # fmt: skip
    same = len(found["results"]) - len(results)
    parts = [
        f"<h1>{html.escape(title)}</h1>", f"<p class=sub>{html.escape(notes)}</p>",
        section("Asked differently", None, "", table("by name", ("", first.name, second.name), changed))
        if changed else "<section><h2>Asked differently</h2><p>Nothing.</p></section>",
        section(
            "Results", None, "",
            table(f"{same} others are equal", ("", first.name, second.name, "difference", "ratio"), results),
        ),
        *_daily(first, second, found["days"]),
    ]  # fmt: skip
    return html.page(title, parts)


def _daily(first: Run, second: Run, days: Sequence[Mapping[str, Any]]) -> list[str]:
    parts = []
    for name in DAILY:
        if name not in UNITS or not any(f"{name}_a" in row for row in days):
            continue
        a, b = (_column(run.result["days"], name) for run in (first, second))
        figure = charts.overlaid(a, b, name, (first.name, second.name), UNITS[name])
        rows = [(row["day"], row[f"{name}_a"], row[f"{name}_b"], row[f"{name}_difference"]) for row in days]
        head = ("day", first.name, second.name, "difference")
        title = name.replace("_kwh", "").replace("_", " ").capitalize()
        parts.append(section(f"{title} by day", figure, f"{title} of both runs, day by day.",
                             table(UNITS[name], head, rows)))  # fmt: skip
    return parts


def _column(days: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """One value a day, of the first contract; amounts as numbers."""
    rows: dict[str, dict[str, Any]] = {}
    for row in days:
        value = row.get(name)
        rows.setdefault(row["day"], {"day": row["day"], name: float(value) if isinstance(value, str) else value})
    return list(rows.values())


def _text(value: Any) -> str:
    found = html.text(value)
    return found if len(found) <= 120 else f"{found[:117]}..."
