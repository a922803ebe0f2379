"""Who may do what here? API keys, shown once; engines, the installation, the settings in force."""

from datetime import timedelta
from typing import Any

import msgspec

from slipway.access.budgets import period_of
from slipway.access.keys import ROLES, SCOPES, USUAL_SCOPES, create_key, list_keys, revoke_key
from slipway.config.reader import FILE_NAME
from slipway.domain.access import ApiKey, Limits, Spending
from slipway.domain.errors import InputError
from slipway.lifecycle.doctor import examine
from slipway.web.filter import link
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, day, money
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.table import Column, Row, Table, tag

KEYS = (
    Column(key="name", label="Key", mono=True),
    Column(key="state", label="State"),
    Column(key="prefix", label="Begins with", mono=True),
    Column(key="scopes", label="May", one_line=False),
    Column(key="limits", label="Limits", one_line=False),
    Column(key="used", label="Used this month", one_line=False),
    Column(key="expires", label="Ends"),
)
PAGE = 50
"""Keys that are shown at once."""
SECRET_WORDS = ("key", "secret", "token", "password")


def show(visit: Visit, *, new: tuple[ApiKey, str] | None = None) -> View:
    workspace = visit.workspace
    every, wanted = list_keys(workspace.store), visit.ask("find").strip()
    found = [key for key in every if not wanted or wanted in key.name or key.prefix.startswith(wanted)]
    first = int(visit.ask("after")) if visit.ask("after").isdigit() else 0
    keys = found[first : first + PAGE]
    used = workspace.store.spending.of(period_of(workspace.now()))
    query = {"find": wanted} if wanted else {}
    data: dict[str, Any] = {
        "new": new,
        "keys": Table(
            caption="API keys",
            columns=KEYS,
            rows=[_row(key, used.get(key.holder), visit) for key in keys],
            more_href=link("/settings", query, after=str(first + PAGE)) if first + PAGE < len(found) else "",
            first_href=link("/settings", query) if first else "",
        ),
        "number_of_keys": count(len(every)),
        "wanted": wanted,
        "to_search": len(every) > PAGE,
        "usable": [key for key in keys if key.valid_at(workspace.now())],
        "scopes": SCOPES,
        "usual": USUAL_SCOPES,
        "roles": [("", "none: models only"), *((role, role) for role in ROLES)],
        "engines": [(name, _hidden(table)) for name, table in workspace.settings.engines.items()],
        "answers_with": f"{workspace.settings.release.engine}/{workspace.settings.release.model}",
        "tables": _tables(visit),
        "path": str(workspace.folder / FILE_NAME),
        "doctor": examine(workspace.folder) if visit.ask("part") == "doctor" else None,
    }
    return View("settings.html", "Settings", data, (Crumb("Settings"),))


def create(visit: Visit) -> View:
    """The page with the new key on it: it is never shown again."""
    days = visit.said("days")
    made = create_key(
        visit.workspace.store,
        visit.said("name"),
        scopes=visit.lists.get("scope", []),
        models=[name for part in visit.said("models").split(",") if (name := part.strip())],
        role=visit.said("role") or None,
        expires_at=visit.workspace.now() + timedelta(days=_whole(days, "days")) if days else None,
        limits=Limits(
            requests_per_minute=_whole(visit.said("per_minute"), "requests") if visit.said("per_minute") else None,
            tokens_per_minute=_whole(visit.said("tokens"), "tokens") if visit.said("tokens") else None,
            monthly_budget_micros=_micros(visit.said("budget")),
        ),
        actor=visit.person,
        now=visit.workspace.now(),
    )
    return show(visit, new=made)


def revoke(visit: Visit) -> Done:
    key = revoke_key(visit.workspace.store, visit.said("key"), actor=visit.person, now=visit.workspace.now())
    return Done("/settings", f"The key {key.name} is revoked.")


def _row(key: ApiKey, used: Spending | None, visit: Visit) -> Row:
    state = "revoked" if key.revoked_at else "usable" if key.valid_at(visit.workspace.now()) else "ended"
    limits = []
    if key.limits.requests_per_minute:
        limits.append(f"{count(key.limits.requests_per_minute)} requests a minute")
    if key.limits.tokens_per_minute:
        limits.append(f"{count(key.limits.tokens_per_minute)} tokens a minute")
    if key.limits.monthly_requests:
        limits.append(f"{count(key.limits.monthly_requests)} requests a month")
    if key.limits.monthly_budget_micros:
        limits.append(f"{money(key.limits.monthly_budget_micros / 1e6)} a month")
    return Row(
        cells={
            "name": key.name,
            "prefix": f"{key.prefix}…",
            "scopes": _may(key),
            "limits": ", ".join(limits) or "none",
            "used": f"{count(used.requests)} requests, {money(used.micros / 1e6)}" if used else UNKNOWN,
            "expires": day(key.expires_at),
            "state": tag(state, "pass" if state == "usable" else ""),
        }
    )


def _may(key: ApiKey) -> str:
    said = [", ".join(key.scopes)]
    if key.models:
        said.append(f"calls only {', '.join(key.models)}")
    if key.role:
        said.append(f"on these pages: {key.role}")
    return "; ".join(said)


def _tables(visit: Visit) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every table of the settings in force, secrets left out."""
    settings = msgspec.to_builtins(visit.workspace.settings)
    return [
        (name, [(key, _written(key, value)) for key, value in table.items()])
        for name, table in settings.items()
        if name != "engines"
    ]


def _hidden(table: dict[str, Any]) -> list[tuple[str, str]]:
    return [(key, _written(key, value)) for key, value in table.items()]


def _written(key: str, value: Any) -> str:
    if value in ("", None, [], {}):
        return UNKNOWN
    if any(word in key for word in SECRET_WORDS) and isinstance(value, str) and not value.startswith(("env:", "file:")):
        return "(hidden)"
    if isinstance(value, list):
        return ", ".join(_written(key, each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_written(name, each)}" for name, each in value.items())
    return str(value)


def _whole(text: str, what: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise InputError(f"'{text}' is not a number of {what}. Write a whole number above 0, or leave it empty.")
    return int(text)


def _micros(text: str) -> int | None:
    if not text:
        return None
    try:
        return round(float(text.replace(",", "")) * 1_000_000)
    except (ValueError, OverflowError):
        raise InputError(f"'{text}' is not an amount of money. Write dollars, such as 25.") from None


ROUTES = [
    page("/settings", show),
    act("/settings/keys", create, back=show, needs="manage_keys"),
    act("/settings/keys/revoke", revoke, back=show, needs="manage_keys"),
]
