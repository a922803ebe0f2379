"""Ids that only their key can use."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.domain.access import ApiKey
from slipway.domain.ids import ContentHash
from slipway.gateway.bound_ids import BoundIds

RAW = "resp_68a0b1c2d3e4f5"
IDS = BoundIds(b"s" * 32)


def a_key(id: str, counted_as: str = "") -> ApiKey:
    made = datetime(2026, 11, 30, tzinfo=UTC)
    hash = ContentHash(id)
    return ApiKey(id=id, name=id, hash=hash, prefix="", scopes=("chat",), created_at=made, counted_as=counted_as)


def a_target(release: str | None = "ab" * 32, engine: str = "kept") -> Any:
    return SimpleNamespace(release=release and SimpleNamespace(id=release), engine=engine)


def bind(key: ApiKey | None = None, **more: Any) -> str:
    return IDS.bind(RAW, key=key, target=a_target(**more), origin="http://one:1")


def test_an_id_says_where_it_belongs():
    given = bind(a_key("a"))
    assert given.startswith(RAW)
    assert len(given) == len(RAW) + 40
    assert bind(a_key("a")) == given
    bound = IDS.read(given, key=a_key("a"))
    assert bound is not None
    assert (bound.id, bound.release_start) == (RAW, "ab" * 6)
    assert bound.place == IDS.place_of("kept", "http://one:1")
    assert IDS.bind_again(bound, key=a_key("a")) == given


def test_a_model_past_every_release_has_none():
    bound = IDS.read(bind(release=None), key=None)
    assert bound is not None
    assert bound.release_start == ""


def test_a_rotated_key_is_the_same():
    given = bind(a_key("a"))
    assert IDS.read(given, key=a_key("b", counted_as="a")) is not None


@pytest.mark.parametrize("key", [None, a_key("b"), a_key("b", counted_as="c")])
def test_another_key_reads_nothing(key):
    assert IDS.read(bind(a_key("a")), key=key) is None


def test_no_letter_of_it_can_be_another():
    given = bind()
    for at, letter in enumerate(given):
        for other in "aZ0_-=\u00e9.":
            if other != letter:
                assert IDS.read(given[:at] + other + given[at + 1 :], key=None) is None


@pytest.mark.parametrize("given", ["", RAW, "x" * 40, RAW + "=" * 40, RAW + "\n" * 40, bind()[1:], bind()[:-4]])
def test_what_was_never_given_is_none(given):
    assert IDS.read(given, key=None) is None


def test_another_server_with_another_master_key_reads_nothing():
    assert BoundIds(b"t" * 32).read(bind(), key=None) is None


def test_addresses_of_one_engine_are_told_apart():
    places = {IDS.place_of(engine, origin) for engine in ("a", "b") for origin in ("http://one:1", "http://two:1")}
    assert len(places) == 4
