"""What a backtest came to: the document that scripts rely on, and the files beside it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from aggregator import backtest_series as series
from aggregator import billing, exporting, managing, whatif
from aggregator.backtest import Backtest
from aggregator.bidding import available
from aggregator.checkpoint import CHECKPOINT
from aggregator.results import periods, writing
from aggregator.wanted import Wanted, guests_digest, signal_digest
from settlement.align import NS
from settlement.scores import weighted_score
from settlement.statement import Statement


def result(wanted: Wanted, test: Backtest, rejected: Counter[str], out: Path | None) -> dict[str, Any]:
    """The result's keys, as scripts rely on them."""
    gathered = test.finish()
    sums, energy = test.core.sums, test.fleet.energy()
    statements = list(test.statements())
    score, note = weighted_score((s.score, s.coverage_frac, s.score_note) for s in statements)
    delivered_up = sum(s.delivered_up_kwh for s in statements)
    row = {
        "format": "+".join(sorted({trace.format for trace in wanted.traces})) or "signal",
        "samples": test.rows,
        "signals": test.told,
        "signals_clipped": sums.clipped,
        "trips": sums.trips,
        "rejected": dict(Counter(test.gate.rejected()) + rejected),
        "gap_s": test.gap_s,
        "requested_up_kwh": sums.requested_up_kwh,
        "requested_down_kwh": sums.requested_down_kwh,
        "delivered_up_kwh": delivered_up,
        "delivered_down_kwh": sum(s.delivered_down_kwh for s in statements),
        "energy_up_kwh": delivered_up,
        "energy_balance_error_kwh": abs(energy.residual_kwh),
        "throughput_kwh": test.fleet.throughput_kwh,
        "max_sum_error_kw": sums.max_sum_error_kw,
        "bound_violations": sums.bound_violations,
        "unserved_kwh": sums.unserved_kwh,
        "unserved_by_reason": test.core.unserved_by_reason(),
        "switches": test.switches,
        "switches_per_vehicle_h": test.switches_per_vehicle_h,
        "score": score,
        "score_note": note,
        "soc_min_frac": test.soc_min_frac,
        "soc_max_frac": test.soc_max_frac,
        "ticks": sums.ticks,
        "commands": sums.commands,
        "alarms": test.core.alarms.raised,
        "modes": managing.seconds(test.core.modes()),
        "products": _products(test),
    }
    if source := wanted.source:
        row["files"] = {part: [entry for found in source for entry in found[part]] for part in source[0]}
    if (fleet := wanted.fleet) is not None:
        row["fleet"] = fleet.about | (test.fleet.arrivals() or {})
    if test.seller is not None:
        row["bids"] = test.seller.result()
    bill = None if wanted.prices is None else wanted.prices.bill(statements)
    if bill is not None:
        row["income"] = billing.summary(bill)
    products = {c.product.id: c.product for c in test.settings.contracts}
    unsold = list(test.unsold())
    days, blocks = (make(statements, products, bill, gathered, unsold) for make in (periods.days, periods.blocks))
    row |= {**gathered.told(), "days": [_plain(day) for day in days], "blocks": len(blocks)}
    row["worst_blocks"] = [_plain(block) for block in periods.worst(blocks)]
    if out is not None:
        writing.write(out, gathered, days, blocks)
        span_ns = (gathered.start_ns, test.core.last_sample[0])
        behaviour = test.fleet.behaviour
        more = {} if fleet is None else {"guests": fleet.about | {"sha256": guests_digest(fleet)}}
        more |= {} if test.seller is None else {"bids": test.seller.asked()}
        told = writing.asked(
            wanted.traces, gathered.settings, behaviour, wanted.seed, signal_digest(wanted.signal), span_ns, **more
        )
        writing.write_asked(out, told)
        _write(out, row, test, statements)
        if bill is not None:
            (out / "lines.csv").write_bytes(exporting.table(billing.line_rows(bill), "csv"))
    return row


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Amounts as texts that keep their cents."""
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def _products(test: Backtest) -> list[dict[str, Any]]:
    """What was sold [kW]; the mean over the settled intervals where it changed."""
    first_ns = test.sales[0][0] if test.sales else test.last_ns - 1
    starts_ns = np.arange(first_ns, test.last_ns, NS * test.settings.interval_s, dtype=np.int64)
    mean = test.sold_kw(starts_ns).mean(axis=0) if starts_ns.size else np.zeros(len(test.settings.contracts))
    return [
        {"id": contract.product.id, "sold_kw": float(kw), **whatif.told(contract.product)}
        for contract, kw in zip(test.settings.contracts, mean, strict=True)
    ]


def _write(out: Path, row: dict[str, Any], test: Backtest, statements: list[Statement]) -> None:
    """Result, statements, the series behind them and a page to look at."""
    from aggregator.results import page  # a second of import for those who want it

    out.mkdir(parents=True, exist_ok=True)
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY
    (out / "result.json").write_bytes(orjson.dumps(row, option=pretty))
    (out / "statements.json").write_bytes(orjson.dumps([s.to_dict() for s in statements], option=pretty))
    for name, kept in (("frequency", test.samples_kept), ("meter", test.meters_kept)):
        series.write(out / f"{name}.parquet", kept)
    if test.watcher is not None:
        available.write(out / available.FILE, test.watcher.rows, test.watcher.bundle)
    title = ", ".join(
        ", ".join((f"{sold['sold_kw']:g} kW of {sold['id']}", *sold.get("changed", ()))) for sold in row["products"]
    )
    shown = page.Shown(title, row, series.of(test), statements, test.gathered.spans.rows, _facts(row))
    page.write(out / "report.html", shown)
    (out / CHECKPOINT).unlink(missing_ok=True)
    test.samples_kept.discard()
    test.meters_kept.discard()


def _facts(row: dict[str, Any]) -> dict[str, str]:
    """What the page says beside its charts."""
    switches = row["switches_per_vehicle_h"]
    unserved = {name: f"{kwh:.4g} kWh" for name, kwh in row["unserved_by_reason"].items()}
    return {
        "Score": "-" if row["score"] is None else f"{row['score']:.4f}",
        "Asked up / down": f"{row['requested_up_kwh']:.6g} / {row['requested_down_kwh']:.6g} kWh",
        "Given up / down": f"{row['delivered_up_kwh']:.6g} / {row['delivered_down_kwh']:.6g} kWh",
        **{f"Income: {item['product']}": f"{item['amount']} {item['currency']}" for item in _income(row)},
        "Unserved": f"{row['unserved_kwh']:.4g} kWh",
        **{f"Unserved: {name}": text for name, text in sorted(unserved.items())},
        "Commands outside a vehicle's bounds": str(row["bound_violations"]),
        "Largest error of the sum": f"{row['max_sum_error_kw']:.3g} kW",
        **({} if switches is None else {"Switches a vehicle and hour": f"{switches:.3g}"}),
        "Alarms": ", ".join(row["alarms"]) or "none",
    }


def _income(row: dict[str, Any]) -> list[dict[str, str]]:
    return list(row["income"]["totals"]) if "income" in row else []
