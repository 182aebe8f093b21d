"""`flyball acl`: the users of a store of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aggregator.cli.output import app


@app.command(epilog="Example: flyball acl --config flyball.toml --keys store-keys > users.acl")
def acl(
    keys: Annotated[Path, typer.Option(help="Folder for the passwords, one private file a user; kept if there.")],
    config: Annotated[Path | None, typer.Option(help="TOML configuration: the area.")] = None,
) -> None:
    """Print the ACL file of a Redis or Valkey server: a user a process, with the keys and commands it needs."""
    from aggregator.config import load
    from aggregator.users import acl as users_of
    from aggregator.users import make_passwords

    typer.echo(users_of(load(config).area, make_passwords(keys)), nl=False)
