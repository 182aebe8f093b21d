"""`flyball prequalify`: a market's own test, played and judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from aggregator.cli.output import Json, app, emit, fail, text, writable

if TYPE_CHECKING:
    from aggregator.config import Config
    from aggregator.contracts import CoreSettings
    from droop.products import Product
    from settlement.prequalification import Options, Plan, Recording

WORDS = {True: "pass", False: "FAIL", None: "-"}


@app.command(epilog="Example: flyball prequalify ce_fcr --vehicles 200 --out test --json -")
def prequalify(
    product: Annotated[str | None, typer.Argument(help="Product to be tested, by id or .toml file.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML configuration, as of `run`: fleet, sites, limits; one contract.")
    ] = None,
    vehicles: Annotated[
        int | None, typer.Option(min=1, max=2_000_000, help="Chargers in the simulated fleet; 1000.")
    ] = None,
    sold_kw: Annotated[float | None, typer.Option(min=0, help="Power to be qualified [kW]; 2 kW a vehicle.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the fleet; 1.")] = None,
    perfect: Annotated[bool, typer.Option("--perfect", help="Chargers without delay, loss or refusal.")] = False,
    part: Annotated[list[str] | None, typer.Option(help="Play this part only; may be repeated.")] = None,
    hold_s: Annotated[float | None, typer.Option(help="Length of the test's long hold [s]; the rule's own.")] = None,
    operation_s: Annotated[
        float | None, typer.Option(help="Length of real operation at the end [s]; the rule's own; 0 leaves it out.")
    ] = None,
    fme_s: Annotated[
        float, typer.Option(help="Time constant of the frequency measurement that the injection goes round [s].")
    ] = 1.0,
    latency: Annotated[
        Path | None, typer.Option(help="Summary of `run --json`, for the delay that the loop affords.")
    ] = None,
    charger_s: Annotated[float, typer.Option(help="Dead time of the chargers, added to that latency [s].")] = 0.0,
    actuator_s: Annotated[float, typer.Option(help="First-order time constant of the chargers [s].")] = 0.0,
    plan: Annotated[Path | None, typer.Option(help="Write the plan for `run --trace`, and stop.")] = None,
    recording: Annotated[
        Path | None, typer.Option("--from", help="Judge a run that played the plan: its folder.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Play the plan through the whole line, in real time.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for report, recording and plan.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 1 if the test is not passed.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List tests; of a product, its parts.")] = False,
    json: Json = None,
) -> None:
    """Play a market's own prequalification test, and judge every requirement."""
    from aggregator import prequalification_files as files
    from aggregator import prequalifying
    from aggregator.config import load
    from droop import products
    from settlement import prequalification as test

    writable(json)
    if plan is not None:
        writable(str(plan), "--plan")
    if product is None:
        if not listed:
            raise ValueError("PRODUCT is missing; `flyball prequalify --list` names the tests")
        emit({name: trial.title for name, trial in test.TESTS.items()}, json, _tests())
        return
    tested = products.load(product)
    options = test.Options(
        hold_s=hold_s, operation_s=operation_s, fme_s=fme_s, actuator_s=actuator_s,
        latency_s=None if latency is None else prequalifying.latency_s(latency) + charger_s,
    )  # fmt: skip
    chosen = test.plan_of(tested, options)
    chosen = chosen.only(part) if part else chosen
    if listed:
        emit(_listing(chosen), json, _parts(chosen))
        return
    if plan is not None:
        files.write_plan(plan, chosen, prequalifying.START_NS)
        emit(_listing(chosen) | {"plan": str(plan)}, json, f"{plan}: {chosen.duration_s:g} s at {chosen.rate_hz:g} Hz")
        return
    given = {"product": product} | ({} if sold_kw is None else {"sold_kw": sold_kw})
    loaded = load(
        config, fleet__vehicles=vehicles, fleet__seed=seed, fleet__perfect=perfect or None, contract=[given],
        unit__rate_hz=max(chosen.rate_hz, 10.0) if live else None,
    )  # fmt: skip
    found, how, options = _recorded(chosen, loaded, options, recording, live)
    document = _judged(tested, chosen, found, options, loaded, how, out)
    emit(document, json, _requirements(document))
    if strict and not document["passed"]:
        fail(f"{tested.id}: not passed: {', '.join(document['failed'])}", code=1)


def _recorded(
    plan: Plan, loaded: Config, options: Options, folder: Path | None, live: bool
) -> tuple[Recording, str, Options]:
    """The recording that is judged, and how it came about; of a live line with the latency it had."""
    from aggregator import prequalifying
    from aggregator.cli.backtesting import progress_bar
    from aggregator.compiling import ensure
    from aggregator.configured import behaviour, core_settings
    from aggregator.process import logger, settle_memory

    if folder is not None:
        return prequalifying.recorded(folder, plan), f"recorded in {folder}", options
    if live:
        return prequalifying.play_live(plan, loaded, options, logger("prequalify", loaded.log))
    settings: CoreSettings = core_settings(loaded)
    prequalifying.tested(settings)
    ensure(logger("prequalify"))
    settle_memory()
    with progress_bar("prequalify") as progress:
        found = prequalifying.play(
            plan, settings, seed=loaded.fleet.seed, behaviour=behaviour(loaded.fleet), progress=progress
        )
    return found, f"simulated fleet of {settings.rows}, seed {loaded.fleet.seed}", options


def _judged(
    product: Product, plan: Plan, recording: Recording, options: Options, loaded: Config, how: str, out: Path | None
) -> dict[str, Any]:
    """The verdict as a document; report, recording and plan in a folder."""
    from aggregator import prequalification_files as files
    from aggregator import prequalifying
    from aggregator.configured import core_settings
    from settlement import prequalification as test

    sold_kw = prequalifying.tested(core_settings(loaded)).sold_kw
    verdict = test.judge(product, plan, recording, sold_kw, options)
    document: dict[str, Any] = (
        {"product": product.id, "sold_kw": sold_kw, "how": how} | _listing(plan) | verdict.to_dict()
    )
    if out is None:
        return document
    from aggregator import prequalification_page as report  # a second of import for those who want the page

    out.mkdir(parents=True, exist_ok=True)
    table = files.write_csv(out, product, plan, recording, sold_kw, prequalifying.START_NS)
    files.write_plan(out / "plan.csv", plan, prequalifying.START_NS)
    facts = {
        "Test": f"{plan.title} ({', '.join(plan.tests)})", "How": how,
        "Failed": ", ".join(document["failed"]) or "nothing", "Qualifies": f"{verdict.qualified_kw:g} kW",
        "Profile": f"{plan.source} (mark {plan.mark})", "Recording": table.name,
    }  # fmt: skip
    report.write(out / "report.html", product, plan, recording, sold_kw, verdict, options, facts)
    document["files"] = [str(out / name) for name in ("report.html", "report.json", "plan.csv", table.name)]
    files.write_json(out / "report.json", document)
    return document


def _listing(plan: Plan) -> dict[str, Any]:
    return {
        "title": plan.title, "tests": list(plan.tests), "input": plan.input, "rate_hz": plan.rate_hz,
        "duration_s": plan.duration_s, "mark": plan.mark, "source": plan.source,
        "parts": [
            {"name": part.name, "title": part.title, "start_s": start_s, "end_s": end_s, "measured": part.measured}
            for part, start_s, end_s in plan.spans()
        ],
    }  # fmt: skip


def _tests() -> Table:
    from settlement.prequalification import TESTS

    table = Table(title="Tests", title_justify="left")
    for name in ("test", "what"):
        table.add_column(name)
    for name, trial in TESTS.items():
        table.add_row(name, trial.title)
    return table


def _parts(plan: Plan) -> Table:
    table = Table(title=f"{plan.title}: {plan.duration_s:g} s at {plan.rate_hz:g} Hz", title_justify="left")
    for name in ("part", "what", "from s", "to s"):
        table.add_column(name, justify="right" if name.endswith(" s") else "left")
    for part, start_s, end_s in plan.spans():
        table.add_row(part.name, part.title, f"{start_s:g}", f"{end_s:g}")
    return table


def _requirements(document: dict[str, Any]) -> Table:
    word = "passed" if document["passed"] else "not passed"
    title = f"{document['title']}: {document['sold_kw']:g} kW, {word}; qualifies {document['qualified_kw']:g} kW"
    table = Table(title=title, title_justify="left")
    for name in ("requirement", "part", "limit", "measured", "", "mark"):
        table.add_column(name, justify="right" if name == "measured" else "left")
    for row in document["requirements"]:
        limit = f"{row['limit']} {row['unit']}".strip()
        table.add_row(row["id"], row["part"], limit, text(row["measured"]), WORDS[row["passed"]], row["mark"])
    return table
