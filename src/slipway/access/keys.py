"""API keys: 256 bits of chance, shown once, kept as a hash."""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

from slipway.access.audit import record_event
from slipway.domain.access import ApiKey, Limits, Role, Scope
from slipway.domain.errors import AccessDenied, Conflict, InputError, NameInvalid, NotFound, ScopeMissing, did_you_mean
from slipway.domain.ids import ContentHash, hash_text, is_name, new_id
from slipway.store.store import Store

KEY_PREFIX = "sk-slip-"
SHOWN_CHARACTERS = len(KEY_PREFIX) + 6
SCOPES: tuple[Scope, ...] = get_args(Scope)
ROLES: tuple[Role, ...] = get_args(Role)
LONGEST_MODEL = 200
USUAL_SCOPES: tuple[Scope, ...] = ("chat", "feedback")


def utc_now() -> datetime:
    return datetime.now(UTC)


def create_key(
    store: Store,
    name: str,
    *,
    scopes: Sequence[str] = USUAL_SCOPES,
    role: str | None = None,
    expires_at: datetime | None = None,
    limits: Limits | None = None,
    models: Sequence[str] = (),
    actor: str = "cli",
    now: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its text, which cannot be shown again.

    Raises `NameInvalid`, `Conflict` when the name is taken, `InputError` for unknown scopes or roles, and for models
    that none can be called.
    """
    if not is_name(name):
        raise NameInvalid("an API key", name)
    for scope in scopes:
        if scope not in SCOPES:
            raise InputError(f"There is no scope '{scope}'.{did_you_mean(scope, SCOPES)}")
    if role is not None and role not in ROLES:
        raise InputError(f"There is no role '{role}'.{did_you_mean(role, ROLES)}")
    text = KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey(
        id=new_id(),
        name=name,
        hash=hash_key(text),
        prefix=text[:SHOWN_CHARACTERS],
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        role=next((known for known in ROLES if known == role), None),
        limits=limits or Limits(),
        models=_checked_models(models),
        created_at=now or utc_now(),
        expires_at=expires_at,
    )
    with store.transaction():
        if store.records.latest(ApiKey, name) is not None:
            raise Conflict(f"There is a key '{name}' already. Choose another name: keys are never given twice.")
        store.records.save(key)
        detail = {"scopes": " ".join(key.scopes)} | ({"models": " ".join(key.models)} if key.models else {})
        record_event(store, actor, "keys.create", key.name, detail=detail)
    return key, text


def hash_key(text: str) -> ContentHash:
    """SHA-256 is enough for 256 bits of chance: nobody can try them all."""
    return hash_text(text)


def check_key(store: Store, text: str, *, scope: Scope | None = None, now: datetime | None = None) -> ApiKey:
    """The key behind a text, by one look into the store. Raises `AccessDenied`, and `ScopeMissing` for its scope."""
    hashed = hash_key(text)
    found = store.records.list(ApiKey, where={"hash": hashed}, limit=1)
    if not found or not hmac.compare_digest(found[0].hash, hashed):
        raise _denied()
    return _checked(found[0], scope, now or utc_now())


def find_key(store: Store, name: str) -> ApiKey | None:
    """A key by its name or id, revoked or not."""
    return store.records.latest(ApiKey, name) or store.records.find(ApiKey, name)


def list_keys(store: Store) -> list[ApiKey]:
    """Every key, revoked and expired ones too, newest first."""
    return store.records.list(ApiKey)


def revoke_key(store: Store, name: str, *, actor: str = "cli", now: datetime | None = None) -> ApiKey:
    """Ends a key (by name or id) for good. A running gateway refuses it within seconds. Raises `NotFound`."""
    with store.transaction():
        key = _found(store, name)
        if key.revoked_at is not None:
            return key
        revoked = replace(key, revoked_at=now or utc_now())
        store.records.save(revoked)
        record_event(store, actor, "keys.revoke", key.name)
    return revoked


def change_limits(store: Store, name: str, limits: Limits, *, actor: str = "cli") -> ApiKey:
    """Gives a key (by name or id) other limits. A running gateway follows within seconds. Raises `NotFound`."""
    with store.transaction():
        changed = replace(_found(store, name), limits=limits)
        store.records.save(changed)
        record_event(store, actor, "keys.limits", changed.name, detail=_said(limits))
    return changed


def change_models(store: Store, name: str, models: Sequence[str], *, actor: str = "cli") -> ApiKey:
    """Names the models that a key (by name or id) may call; none lets it call all. A running gateway follows within
    seconds. Raises `NotFound`, `InputError`."""
    with store.transaction():
        changed = replace(_found(store, name), models=_checked_models(models))
        store.records.save(changed)
        record_event(store, actor, "keys.models", changed.name, detail={"models": " ".join(changed.models) or "all"})
    return changed


def rotate_key(
    store: Store,
    name: str,
    *,
    overlap: timedelta = timedelta(0),
    actor: str = "cli",
    now: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new text for a key, which keeps its id and so its limits and what it has used; the text is shown once.

    The old text goes on for `overlap` as a key of its own, whose name ends in `-before`; both are counted as one.
    Raises `NotFound`, `Conflict` when the key is revoked.
    """
    text = KEY_PREFIX + secrets.token_urlsafe(32)
    moment = now or utc_now()
    with store.transaction():
        key = _found(store, name)
        if key.revoked_at is not None:
            raise Conflict(f"The key '{key.name}' is revoked. Make another one: slipway keys create NAME")
        if overlap:
            ends = moment + overlap
            before = replace(
                key,
                id=new_id(),
                name=_name_before(store, key.name),
                counted_as=key.holder,
                expires_at=ends if key.expires_at is None else min(ends, key.expires_at),
            )
            store.records.save(before)
        rotated = replace(key, hash=hash_key(text), prefix=text[:SHOWN_CHARACTERS])
        store.records.save(rotated)
        record_event(store, actor, "keys.rotate", key.name)
    return rotated, text


def _name_before(store: Store, name: str) -> str:
    for number in range(1, 1000):
        wanted = f"{name[:50]}-before" + (f"-{number}" if number > 1 else "")
        if store.records.latest(ApiKey, wanted) is None:
            return wanted
    raise Conflict(f"The key '{name}' was rotated too often. Make another one: slipway keys create NAME")


def _found(store: Store, name: str) -> ApiKey:
    key = find_key(store, name)
    if key is None:
        raise NotFound("API key", name, known=store.records.names(ApiKey))
    return key


def _checked_models(models: Sequence[str]) -> tuple[str, ...]:
    for model in models:
        if not model.isprintable() or not model.strip() or model != model.strip() or len(model) > LONGEST_MODEL:
            raise InputError(
                f"'{model[:LONGEST_MODEL]}' cannot be the name of a model. Write one such as 'support@14'."
            )
        if "*" in model[:-1]:
            raise InputError(f"'{model}' has a * that is not at its end. Write one such as 'support@*'.")
    return tuple(dict.fromkeys(models))


def _said(limits: Limits) -> dict[str, str]:
    """Limits for the audit log."""
    return {name: str(value) for name in Limits.__slots__ if (value := getattr(limits, name)) is not None}


def _denied() -> AccessDenied:
    return AccessDenied("The API key is missing, unknown, expired or revoked. Make one: slipway keys create NAME")


def _checked(key: ApiKey, scope: Scope | None, now: datetime) -> ApiKey:
    if not key.valid_at(now):
        raise _denied()
    if scope is not None and scope not in key.scopes:
        raise ScopeMissing(key.name, scope)
    return key
