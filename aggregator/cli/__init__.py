"""The command line: `flyball COMMAND`. Each command is a thin shell; what it does lies elsewhere.

Results go to standard output (or where `--json` says), logs and progress to standard error. Exit status 0 only
on success; 2 for wrong use or bad input, with one line that names the field and the remedy. Imports are inside
the commands, so that `flyball respond` does not wait for what `flyball run` needs.
"""

from __future__ import annotations

import sys

from aggregator.cli import backtesting, catalogue, diagnosis, processes, replaying, running
from aggregator.cli.output import app, fail

__all__ = ["app", "backtesting", "catalogue", "diagnosis", "main", "processes", "replaying", "running"]


def main() -> None:
    """Entry point of the `flyball` script."""
    try:
        app(prog_name="flyball")
    except BrokenPipeError:
        # Whoever read our output has had enough; that is no fault of ours.
        sys.stderr.close()
    except KeyboardInterrupt:
        fail("interrupted", code=130)
    except (ValueError, OSError, RuntimeError) as error:
        if isinstance(error, (UnicodeError, RecursionError, NotImplementedError)):
            raise
        # Named errors of the house are ValueErrors and RuntimeErrors whose message is the line to show.
        fail(" ".join(str(error).split()))
