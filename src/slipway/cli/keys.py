"""`slipway keys`: API keys for clients and people."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show, table

if TYPE_CHECKING:
    from slipway.domain.access import ApiKey

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the key: who or what uses it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it may do: chat, feedback, traces, read, write, admin. May be repeated."),
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="Role on the pages: viewer, member, admin; without it, none.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires; without it, never.")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Most requests a minute.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(min=1, help="Most tokens a minute.")] = None,
    monthly_budget: Annotated[float | None, typer.Option(min=0, help="Most dollars a calendar month.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it once; only its hash is kept."""
    from slipway.access.keys import USUAL_SCOPES, create_key
    from slipway.domain.access import Limits

    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        monthly_budget_micros=None if monthly_budget is None else round(monthly_budget * 1_000_000),
    )
    with open_here(folder) as workspace:
        key, text = create_key(
            workspace.store,
            name,
            scopes=scope or USUAL_SCOPES,
            role=role,
            expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
            limits=limits,
        )
    shown = {"name": key.name, "key": text, "scopes": key.scopes, "role": key.role, "expires_at": key.expires_at}
    show(shown, as_json=as_json, text=f"{text}\nKey '{name}' ({', '.join(key.scopes)}). It is not shown again.")


@app.command("list")
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the keys, newest first, revoked ones too."""
    from slipway.access.keys import list_keys

    with open_here(folder) as workspace:
        now = workspace.now()
        keys = list_keys(workspace.store)
    rows = [[key.name, f"{key.prefix}…", " ".join(key.scopes), key.role or "–", _state(key, now)] for key in keys]
    shown = [
        {
            "name": key.name,
            "prefix": key.prefix,
            "scopes": key.scopes,
            "role": key.role,
            "state": _state(key, now),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
        }
        for key in keys
    ]
    text = (
        table(["name", "key", "scopes", "role", "state"], rows) or "There is no key. Make one: slipway keys create NAME"
    )
    show(shown, as_json=as_json, text=text)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name or id of the key.")], folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """End a key for good; a running gateway refuses it within seconds."""
    from slipway.access.keys import revoke_key

    with open_here(folder) as workspace:
        key = revoke_key(workspace.store, name)
    show({"name": key.name, "revoked_at": key.revoked_at}, as_json=as_json, text=f"Key '{key.name}' is revoked.")


def _state(key: "ApiKey", now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.valid_at(now) else "expired"
