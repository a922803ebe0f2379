"""API keys: shown once, kept as a hash, refused when they should be."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.access.keys import (
    change_limits,
    change_models,
    check_key,
    create_key,
    find_key,
    list_keys,
    revoke_key,
    rotate_key,
)
from slipway.domain.access import ApiKey, Limits
from slipway.domain.errors import AccessDenied, Conflict, InputError, NameInvalid, NotFound, ScopeMissing
from slipway.store.store import Store

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_key_is_shown_once_and_only_its_hash_is_kept(store: Store) -> None:
    key, text = create_key(store, "shop", now=NOON)
    assert text.startswith("sk-slip-")
    assert text.startswith(key.prefix)
    # 256 bits, in URL-safe base64 without padding.
    assert len(text.removeprefix("sk-slip-")) == 43
    assert text not in repr(store.records.get(ApiKey, key.id))
    assert text.encode() not in b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert check_key(store, text, now=NOON) == key


def test_keys_differ(store: Store) -> None:
    texts = {create_key(store, f"k{number}")[1] for number in range(20)}
    assert len(texts) == 20


REFUSED: list[Any] = [
    pytest.param("", NOON, id="no key"),
    pytest.param("sk-slip-wrong", NOON, id="an unknown key"),
    pytest.param("{text}x", NOON, id="a key with a letter too many"),
    pytest.param("{text}", NOON + timedelta(days=31), id="an expired key"),
    pytest.param("{revoked}", NOON, id="a revoked key"),
    pytest.param("\ud800", NOON, id="half a surrogate pair"),
]


@pytest.mark.parametrize(("text", "now"), REFUSED)
def test_keys_that_are_refused_get_one_answer(store: Store, text: str, now: datetime) -> None:
    _, good = create_key(store, "good", expires_at=NOON + timedelta(days=30), now=NOON)
    _, revoked = create_key(store, "gone", now=NOON)
    revoke_key(store, "gone", now=NOON)
    given = text.replace("{text}", good).replace("{revoked}", revoked)
    answer = r"The API key is missing, unknown, expired or revoked\."
    with pytest.raises(AccessDenied, match=answer) as caught:
        check_key(store, given, now=now)
    assert caught.value.http_status == 401
    assert check_key(store, good, now=NOON).name == "good"


def test_a_key_without_the_scope_is_told_which_one_it_lacks(store: Store) -> None:
    _, text = create_key(store, "shop", scopes=["chat"])
    assert check_key(store, text, scope="chat").scopes == ("chat",)
    with pytest.raises(ScopeMissing, match="'shop' lacks the scope 'traces'") as caught:
        check_key(store, text, scope="traces")
    assert caught.value.http_status == 403


WRONG: list[Any] = [
    pytest.param({"name": "Not A Name"}, NameInvalid, "is not a name", id="a wrong name"),
    pytest.param({"name": "a", "scopes": ["chatt"]}, InputError, "Did you mean 'chat'", id="a wrong scope"),
    pytest.param({"name": "a", "role": "boss"}, InputError, "There is no role 'boss'", id="a wrong role"),
    pytest.param({"name": "taken"}, Conflict, "There is a key 'taken' already", id="a name that is taken"),
]


@pytest.mark.parametrize(("settings", "error", "message"), WRONG)
def test_wrong_settings_change_nothing(
    store: Store, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    create_key(store, "taken")
    with pytest.raises(error, match=message):
        create_key(store, **settings)
    assert [key.name for key in list_keys(store)] == ["taken"]


def test_keys_are_listed_found_and_revoked_by_name(store: Store) -> None:
    limits = Limits(requests_per_minute=60, monthly_budget_micros=5_000_000)
    key, _ = create_key(store, "one", role="viewer", limits=limits, now=NOON)
    create_key(store, "two", now=NOON + timedelta(seconds=1))
    assert [found.name for found in list_keys(store)] == ["two", "one"]
    assert find_key(store, "one") == find_key(store, key.id) == key
    assert find_key(store, "three") is None
    assert revoke_key(store, "one", now=NOON).revoked_at == NOON
    assert revoke_key(store, "one", now=NOON + timedelta(days=1)).revoked_at == NOON
    with pytest.raises(NotFound, match="Did you mean 'two'"):
        revoke_key(store, "twoo")


def test_projects_have_their_own_keys(store: Store) -> None:
    _, text = create_key(store, "shop")
    with pytest.raises(AccessDenied):
        check_key(store.of("other"), text)


def test_making_and_revoking_is_logged_without_the_key(store: Store) -> None:
    _, text = create_key(store, "shop", actor="anna")
    revoke_key(store, "shop")
    events = list(store.audit.events())
    assert [(event.actor, event.action, event.thing) for event in events] == [
        ("anna", "keys.create", "shop"),
        ("cli", "keys.revoke", "shop"),
    ]
    assert text not in repr(events)


def test_limits_of_a_key_change_and_the_log_says_so(store: Store) -> None:
    key, text = create_key(store, "shop", limits=Limits(requests_per_minute=5), now=NOON)
    changed = change_limits(store, "shop", Limits(tokens_per_minute=100))
    assert changed.id == key.id
    assert check_key(store, text, now=NOON).limits == Limits(tokens_per_minute=100)
    with pytest.raises(NotFound, match="Did you mean 'shop'"):
        change_limits(store, "shpo", Limits())


def test_a_rotated_key_keeps_what_it_is_and_gets_a_new_text(store: Store) -> None:
    key, old = create_key(store, "shop", scopes=["chat", "read"], limits=Limits(monthly_requests=5), now=NOON)
    rotated, new = rotate_key(store, "shop", now=NOON)
    assert (rotated.id, rotated.limits, rotated.scopes) == (key.id, key.limits, key.scopes)
    assert check_key(store, new, now=NOON).id == key.id
    with pytest.raises(AccessDenied):
        check_key(store, old, now=NOON)
    assert new.startswith(rotated.prefix)


def test_both_texts_work_while_they_overlap_and_count_as_one(store: Store) -> None:
    key, old = create_key(store, "shop", now=NOON)
    _, new = rotate_key(store, "shop", overlap=timedelta(hours=1), now=NOON)
    before = check_key(store, old, now=NOON + timedelta(minutes=59))
    assert before.name == "shop-before"
    assert before.holder == check_key(store, new, now=NOON).holder == key.id
    with pytest.raises(AccessDenied):
        check_key(store, old, now=NOON + timedelta(hours=1))
    rotate_key(store, "shop", overlap=timedelta(hours=1), now=NOON)
    assert find_key(store, "shop-before-2") is not None
    revoke_key(store, "shop", now=NOON)
    with pytest.raises(Conflict, match="revoked"):
        rotate_key(store, "shop", now=NOON)


@pytest.mark.parametrize("models", [[""], [" a"], ["a*b"], ["*a"], ["x" * 201], ["a\nb"]])
def test_what_no_model_can_be_called_is_refused(store: Store, models: list[str]) -> None:
    with pytest.raises(InputError, match="Write one such as"):
        create_key(store, "shop", models=models)
    assert list_keys(store) == []


def test_the_models_of_a_key_are_those_that_were_named_last(store: Store) -> None:
    key, _ = create_key(store, "shop", models=["support", "support@*", "support"])
    assert key.models == ("support", "support@*")
    assert key.may_call("support")
    assert key.may_call("0123456789ab", "support@14")
    assert not key.may_call("support2", "other@1")
    assert rotate_key(store, "shop")[0].models == key.models
    assert change_models(store, "shop", []).may_call("other")
    with pytest.raises(NotFound):
        change_models(store, "shopp", ["support"])
