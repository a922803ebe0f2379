"""`slipway keys`: API keys for clients and people."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show, table

if TYPE_CHECKING:
    from slipway.domain.access import ApiKey, Spending
    from slipway.workspace import Workspace

app = typer.Typer(help="Make, list, limit, rotate and revoke API keys.", no_args_is_help=True)


PerMinute = Annotated[int | None, typer.Option(min=1, help="Most requests in any minute.")]
TokensPerMinute = Annotated[int | None, typer.Option(min=1, help="Most tokens in any minute.")]
MonthlyRequests = Annotated[int | None, typer.Option(min=1, help="Most requests a calendar month.")]
MonthlyBudget = Annotated[float | None, typer.Option(min=0, help="Most dollars a calendar month.")]
Name = Annotated[str, typer.Argument(help="Name or id of the key.")]
ANY_MODEL = "every model"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the key: who or what uses it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it may do: chat, feedback, traces, read, write, admin. May be repeated."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="What it may call, such as support or 'support@*'; without it, everything. May be repeated."
        ),
    ] = None,
    role: Annotated[
        str | None, typer.Option(help="Role on the pages: viewer, member, admin; without it, none.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Days until it expires; without it, never.")] = None,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    monthly_requests: MonthlyRequests = None,
    monthly_budget: MonthlyBudget = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it once; only its hash is kept."""
    from slipway.access.keys import USUAL_SCOPES, create_key
    from slipway.domain.access import Limits

    limits = Limits(
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        monthly_requests=monthly_requests,
        monthly_budget_micros=_micros(monthly_budget),
    )
    with open_here(folder) as workspace:
        key, text = create_key(
            workspace.store,
            name,
            scopes=scope or USUAL_SCOPES,
            role=role,
            expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
            limits=limits,
            models=model or (),
        )
        unknown = _unknown_models(workspace, key)
    shown = {
        "name": key.name,
        "key": text,
        "scopes": key.scopes,
        "models": key.models,
        "role": key.role,
        "expires_at": key.expires_at,
    }
    text = f"{text}\nKey '{name}' ({', '.join(key.scopes)}). It is not shown again."
    show(shown, as_json=as_json, text="\n".join([text, *unknown]))


@app.command("list")
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the keys, newest first, revoked ones too."""
    from slipway.access.keys import list_keys

    with open_here(folder) as workspace:
        now = workspace.now()
        keys = list_keys(workspace.store)
    rows = [
        [
            *(key.name, f"{key.prefix}…", " ".join(key.scopes), ", ".join(key.models) or ANY_MODEL, key.role or "–"),
            *(_limits_text(key) or "–", _state(key, now)),
        ]
        for key in keys
    ]
    shown = [
        {
            "name": key.name,
            "prefix": key.prefix,
            "scopes": key.scopes,
            "models": key.models,
            "role": key.role,
            "limits": key.limits,
            "state": _state(key, now),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
        }
        for key in keys
    ]
    head = ["name", "key", "scopes", "models", "role", "limits", "state"]
    text = table(head, rows) or "There is no key. Make one: slipway keys create NAME"
    show(shown, as_json=as_json, text=text)


@app.command("show")
def show_(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show a key: its limits, and what it has used of them this month."""
    from slipway.access.budgets import period_of
    from slipway.access.keys import find_key
    from slipway.domain.access import ApiKey, Spending
    from slipway.domain.errors import NotFound

    with open_here(folder) as workspace:
        now = workspace.now()
        key = find_key(workspace.store, name)
        if key is None:
            raise NotFound("API key", name, known=workspace.store.records.names(ApiKey))
        period = period_of(now)
        used = workspace.store.spending.of(period).get(key.holder) or Spending(holder=key.holder, period=period)
    facts = {
        "name": key.name,
        "id": key.id,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "models": key.models,
        "role": key.role,
        "state": _state(key, now),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "limits": key.limits,
        "used": used,
    }
    show(facts, as_json=as_json, text="\n".join(_key_text(key, used, now)))


@app.command()
def limits(
    name: Name,
    requests_per_minute: PerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    monthly_requests: MonthlyRequests = None,
    monthly_budget: MonthlyBudget = None,
    lift: Annotated[bool, typer.Option("--lift", help="Lift every limit that is not named here.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Change the limits of a key; what is not named stays. A running gateway follows within seconds."""
    from dataclasses import replace

    from slipway.access.keys import change_limits, find_key
    from slipway.domain.access import ApiKey, Limits
    from slipway.domain.errors import InputError, NotFound

    named = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "monthly_requests": monthly_requests,
        "monthly_budget_micros": _micros(monthly_budget),
    }
    named = {field: value for field, value in named.items() if value is not None}
    if not named and not lift:
        raise InputError("No limit is named. Name one, such as --requests-per-minute 60, or --lift them all.")
    with open_here(folder) as workspace:
        key = find_key(workspace.store, name)
        if key is None:
            raise NotFound("API key", name, known=workspace.store.records.names(ApiKey))
        key = change_limits(workspace.store, key.id, replace(Limits() if lift else key.limits, **named))
    text = f"Key '{key.name}' may use {_limits_text(key) or 'as much as it likes'}."
    show({"name": key.name, "limits": key.limits}, as_json=as_json, text=text)


@app.command()
def models(
    name: Name,
    model: Annotated[
        list[str] | None, typer.Argument(help="What it may call, such as support or 'support@*'.", show_default=False)
    ] = None,
    any_: Annotated[bool, typer.Option("--any", help="Let it call everything.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Name the models that a key may call, and no others. A running gateway follows within seconds."""
    from slipway.access.keys import change_models
    from slipway.domain.errors import InputError

    if bool(model) == any_:
        raise InputError(
            "Name the models that the key may call, such as 'support', or --any to let it call everything."
        )
    with open_here(folder) as workspace:
        key = change_models(workspace.store, name, model or ())
        unknown = _unknown_models(workspace, key)
    text = f"Key '{key.name}' may call {', '.join(key.models) or ANY_MODEL}."
    show({"name": key.name, "models": key.models}, as_json=as_json, text="\n".join([text, *unknown]))


@app.command()
def rotate(
    name: Name,
    hours: Annotated[float, typer.Option(min=0, help="Hours for which the old text still works.")] = 0.0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Give a key a new text, shown once; limits and what it used stay."""
    from slipway.access.keys import rotate_key

    with open_here(folder) as workspace:
        key, text = rotate_key(workspace.store, name, overlap=timedelta(hours=hours), now=workspace.now())
    until = f"The old text still works for {hours:g} hours." if hours else "The old text no longer works."
    shown = {"name": key.name, "key": text, "old_works_for_hours": hours}
    show(shown, as_json=as_json, text=f"{text}\nThe new text of key '{key.name}'. It is not shown again. {until}")


@app.command()
def revoke(name: Name, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """End a key for good; a running gateway refuses it within seconds."""
    from slipway.access.keys import revoke_key

    with open_here(folder) as workspace:
        key = revoke_key(workspace.store, name)
    show({"name": key.name, "revoked_at": key.revoked_at}, as_json=as_json, text=f"Key '{key.name}' is revoked.")


def _unknown_models(workspace: "Workspace", key: "ApiKey") -> list[str]:
    """What there is to say of names that nothing has yet: they may be a slip, or meant for later."""
    from slipway.domain.errors import did_you_mean
    from slipway.domain.release import Release
    from slipway.release.channels import list_channels

    known = [channel.name for channel in list_channels(workspace)]
    known += [release.label for release in workspace.store.records.list(Release)]
    if workspace.embedder is not None:
        known.append(workspace.embedder.id)
    return [
        f"Nothing is called '{model}' yet.{did_you_mean(model, known)}"
        for model in key.models
        if "/" not in model and not model.endswith("*") and model not in known
    ]


def _micros(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * 1_000_000)


def _limits_text(key: "ApiKey") -> str:
    from slipway.domain.money import Money

    limits = key.limits
    money = limits.monthly_budget_micros
    said = [
        f"{limits.requests_per_minute} requests a minute" if limits.requests_per_minute is not None else "",
        f"{limits.tokens_per_minute} tokens a minute" if limits.tokens_per_minute is not None else "",
        f"{limits.monthly_requests} requests a month" if limits.monthly_requests is not None else "",
        f"{Money(micros=money)} a month" if money is not None else "",
    ]
    return ", ".join(one for one in said if one)


def _key_text(key: "ApiKey", used: "Spending", now: datetime) -> list[str]:
    from slipway.domain.money import Money

    return [
        f"Key '{key.name}' ({key.prefix}…), {_state(key, now)}",
        f"may:    {' '.join(key.scopes)}; on the pages: {key.role or 'nothing'}",
        f"calls:  {', '.join(key.models) or ANY_MODEL}",
        f"ends:   {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "ends:   never",
        f"limits: {_limits_text(key) or 'none'}",
        f"used in {used.period}: {used.requests} requests, {used.tokens} tokens, {Money(micros=used.micros)}",
    ]


def _state(key: "ApiKey", now: datetime) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.valid_at(now) else "expired"
