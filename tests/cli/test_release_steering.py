"""Splits, rules, shadows and adaptive splits by the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Slipway = Callable[..., tuple[int, str, str]]


@pytest.fixture
def two(slipway: Slipway, application: Path) -> Callable[..., Any]:
    """Two releases of the tiny application, the second one a canary with a tenth; runs a command on it."""

    def run(*arguments: object) -> Any:
        code, out, err = slipway("release", *arguments, "--dir", application, "--json")
        assert code == 0, err
        return json.loads(out)

    slipway("retrieve", "build", "--dir", application)
    run("cut")
    run("promote", "lamps@1", "--force")
    toml = application / "slipway.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace("[application]", "[release]\nseed = 7\n\n[application]"))
    run("cut")
    run("promote", "lamps@2", "--weight", "0.1", "--force")
    return run


def test_a_release_that_gets_a_share_is_the_canary_with_the_default_rule(two, slipway, application):
    shown = two("show", "lamps@2")
    (channel,) = shown["channels"]
    assert channel["canary"] == shown["release"]["id"]
    assert channel["rule"]["error_rate"] == 0.1
    code, out, _ = slipway("release", "show", "lamps@2", "--dir", application)
    assert code == 0
    assert "lamps@2 is the canary: it is rolled back when it fails above 10%" in out


def test_the_rule_is_shown_changed_switched_off_and_set_back(two):
    assert two("rollback-rule")["rule"]["latency_ratio"] == 3.0
    changed = two(
        "rollback-rule", "lamps", "--error-rate", "0.02", "--metric", "answered", "--without", "latency-ratio"
    )
    assert (changed["rule"]["error_rate"], changed["rule"]["latency_ratio"]) == (0.02, None)
    assert changed["rule"]["metric"] == "answered"
    assert two("rollback-rule", "lamps", "--off")["rule"] is None
    assert two("rollback-rule", "lamps", "--default")["rule"]["error_rate"] == 0.1


def test_a_split_keeps_the_canary_and_a_roll_back_ends_it(two):
    split = two("split", "lamps", "lamps@1=0.5", "lamps@2=0.5")
    assert split["canary"] == split["shares"][1]["release"]
    back = two("roll-back", "lamps")
    assert [share["weight"] for share in back["shares"]] == pytest.approx([0.9, 0.1])
    assert two("promote", "lamps@2", "--force")["canary"] is None


def test_a_shadow_and_an_adaptive_split_are_set_and_ended(two, slipway, application):
    assert two("shadow", "lamps", "lamps@2", "--share", "0.25")["shadow_share"] == 0.25
    code, out, _ = slipway("release", "adaptive", "--floor", "0.2", "--dir", application)
    assert code == 0
    assert "The shares follow feedback, none below 20%." in out
    assert "lamps@2 sees copies of 25% of the requests." in out
    assert two("shadow", "lamps")["shadow"] is None
    assert two("adaptive", "--off")["adaptive"] is None


WRONG = [
    pytest.param(("rollback-rule", "lamps", "--error-rate", "1.5"), "below 1", id="a rate above 1"),
    pytest.param(("rollback-rule", "lamps", "--latency-ratio", "0.5"), "at least 1", id="faster than the others"),
    pytest.param(("rollback-rule", "lamps", "--metric", "feedbak"), "Did you mean 'feedback'", id="no such metric"),
    pytest.param(("rollback-rule", "lamps", "--without", "errors"), "error-rate", id="no such bound"),
    pytest.param(("rollback-rule", "lamp", "--off"), "Did you mean 'lamps'", id="no such channel"),
    pytest.param(("adaptive", "--floor", "0.5"), "below 0.5", id="a floor that leaves nothing"),
    pytest.param(("shadow", "lamps", "lamps@2", "--share", "0"), "above 0", id="a shadow that sees nothing"),
    pytest.param(("shadow", "lamps", "lamps@9"), "lamps@9", id="a shadow that there is not"),
]


@pytest.mark.parametrize(("arguments", "reason"), WRONG)
def test_what_cannot_be_is_one_clear_line(two, slipway, application, arguments, reason):
    code, out, err = slipway("release", *arguments, "--dir", application)
    assert code == 2
    assert out == ""
    assert reason in err
