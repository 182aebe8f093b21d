"""The command line: `flyball COMMAND`. Each command is a thin shell; what it does lies elsewhere.

Results go to standard output (or where `--json` says), logs and progress to standard error. Exit status 0 only
on success; 2 for wrong use or bad input, with one line that names the field and the remedy. Imports are inside
the commands, so that `flyball respond` does not wait for what `flyball run` needs.
"""

from __future__ import annotations

import sys
from typing import Any, Final, NoReturn

import typer

from aggregator.cli import (
    access,
    accounts,
    backtesting,
    bidding,
    catalogue,
    comparing,
    diagnosis,
    discovering,
    explaining,
    fleets,
    inspecting,
    journalling,
    prequalifying,
    processes,
    proving,
    replaying,
    reporting,
    running,
    sampling,
    settling,
    stability,
    studying,
)
from aggregator.cli.output import app, fail

__all__ = [
    "access", "accounts", "app", "backtesting", "bidding", "catalogue", "comparing", "diagnosis", "discovering",
    "explaining", "fleets", "inspecting", "journalling", "main", "prequalifying", "processes", "proving", "replaying",
    "reporting", "running", "sampling", "settling", "stability", "studying",
]  # fmt: skip

# Typer brings a click of its own or uses the installed one; its public name leads to the class that is meant.
WRONG_USE: Final[type[Exception]] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def main() -> None:
    """Entry point of the `flyball` script."""
    try:
        # Not standalone: a wrong option reads like every other wrong input, one line.
        raise SystemExit(app(prog_name="flyball", standalone_mode=False) or 0)
    except typer.Abort:
        fail("interrupted", code=130)
    except BrokenPipeError:
        # Whoever read our output has had enough; that is no fault of ours.
        sys.stderr.close()
    except KeyboardInterrupt:
        fail("interrupted", code=130)
    except WRONG_USE as error:
        _misused(error)
    except (ValueError, OSError, RuntimeError) as error:
        if isinstance(error, (UnicodeError, RecursionError, NotImplementedError)):
            raise
        # Named errors of the house are ValueErrors and RuntimeErrors whose message is the line to show.
        fail(" ".join(str(error).split()))


def _misused(error: Any) -> NoReturn:
    """A wrong command, option or argument: one line, and where the right ones are listed."""
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help(), file=sys.stderr)
        raise SystemExit(2)
    where = context.command_path if context is not None else "flyball"
    fail(f"{' '.join(error.format_message().split()).rstrip('.')}; `{where} --help` lists what there is")
