"""`flyball explain`: why a vehicle of the running fleet got its power."""

from __future__ import annotations

import json as jsonlib
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

import typer
from rich.markup import escape
from rich.table import Table

from aggregator.cli.output import Json, app, emit, text, writable

WAIT_S: Final = 10.0
ANSWER_MAX: Final = 1 << 20
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}  # noqa: S104 - read, not bound


@app.command(epilog="Example: flyball explain EV-000042 --json -")
def explain(
    vehicle: Annotated[str, typer.Argument(help="A vehicle that is plugged in, by the name its charger gives.")],
    url: Annotated[str | None, typer.Option(help="Of the API; http://127.0.0.1:8080, or the configuration's.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML configuration of the run.")] = None,
    slot: Annotated[int | None, typer.Option(help="Which charger, where several give this name.")] = None,
    json: Json = None,
) -> None:
    """Say why a vehicle got its power: plan, slope, lambda, bounds with their reasons, and what without them."""
    from aggregator.config import load

    writable(json)
    api = load(config).api
    base = (url or _address(api.host, api.port, api.cert is not None)).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https") or not urlsplit(base).hostname:
        raise ValueError(f"--url {base}: takes an address such as http://127.0.0.1:8080")
    which = "" if slot is None else f"?slot={slot}"
    found = _get(f"{base}/v1/vehicles/{quote(vehicle, safe='')}/explain{which}", base, api.cert)
    emit(found, json, None if json is not None else _table(found))


def _address(host: str, port: int, secure: bool) -> str:
    """Where the API of a configuration answers."""
    if not port:
        raise ValueError("--url: the configuration takes any free port; give the address that `flyball run` told")
    name = EVERYWHERE.get(host, host).strip("[]")
    return f"{'https' if secure else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"


def _get(page: str, base: str, cert: Path | None) -> dict[str, Any]:
    """The API's answer. Raises ValueError in one line, whatever went wrong."""
    context = ssl.create_default_context()
    # The configuration's own certificate is trusted, besides those of the system; and no proxy stands in between.
    if cert is not None:
        context.load_verify_locations(cert)
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    try:
        with urllib.request.build_opener(*handlers).open(page, timeout=WAIT_S) as answer:
            found = jsonlib.loads(answer.read(ANSWER_MAX))
    except urllib.error.HTTPError as error:
        raise ValueError(_refused(error)) from None
    except (OSError, ValueError) as error:
        remedy = "start `flyball run`, or give its address with --url"
        raise ValueError(f"{base}: no answer ({getattr(error, 'reason', error)}); {remedy}") from None
    if not isinstance(found, dict) or not isinstance(found.get("sentence"), str):
        raise ValueError(f"{base}: the answer is no explanation; give the address of Flyball's API with --url")
    return found


def _refused(error: urllib.error.HTTPError) -> str:
    """A refusal of the API in one line."""
    try:
        body = jsonlib.loads(error.read(ANSWER_MAX))
        return f"{body['error']}; {body['remedy']}" if body["remedy"] else str(body["error"])
    except (ValueError, TypeError, KeyError, OSError):
        return f"the API said {error.code} {error.reason}"


def _table(found: dict[str, Any]) -> Table:
    """The sentence, and under it each direction with what bounds it."""
    title = f"{found['vehicle']}, charger {found['slot']}, {found['age_s']:.1f} s ago: {found['sentence']}"
    table = Table("kW", "charge", "discharge", title=escape(title), title_justify="left", title_style="")
    table.add_row("rated power", text(found["rated_lo_kw"]), text(found["rated_hi_kw"]))
    for name, prefix in (("by itself", "own_"), ("in the split", "")):
        cells = (
            f"{text(found[f'{prefix}{side}_kw'])} ({found[f'{prefix}reason_{way}']})"
            for side, way in (("lo", "down"), ("hi", "up"))
        )
        table.add_row(name, *cells)
    if found["wish"] != "none":
        table.add_row(f"wish {found['wish']} takes", text(found["wish_down_kw"]), text(found["wish_up_kw"]))
    return table
