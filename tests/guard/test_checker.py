"""Rails in order: allow, flag, redact, block, and what a failing rail means."""

import time
from dataclasses import dataclass
from typing import ClassVar

import pytest

from slipway.config.reader import parse_settings
from slipway.domain.errors import Blocked, ConfigError, UnknownBackend
from slipway.domain.guardrail import RailSpec
from slipway.guard.checker import check
from slipway.guard.parts import guardrails_from_settings
from slipway.guard.rails.base import Found, Reach, Scene, rails

IBAN = "my IBAN is DE89 3704 0044 0532 0130 00"


def rail(name: str, action: str = "block", **settings: object) -> RailSpec:
    return RailSpec(name=name, action=action, settings=settings)  # type: ignore[arg-type]


def test_a_clean_text_passes_unchanged_with_a_verdict_of_every_rail() -> None:
    checked = check("How long is the warranty?", [rail("length"), rail("secrets", "redact")], source="user")
    assert checked.text == "How long is the warranty?"
    assert [verdict.decision for verdict in checked.verdicts] == ["allow", "allow"]
    assert checked.blocked is None


def test_what_is_redacted_is_replaced_by_its_kind() -> None:
    checked = check(f"{IBAN}, mail a@b.eu", [rail("personal_data", "redact")], source="answer")
    assert checked.text == "my IBAN is [IBAN], mail [EMAIL]"
    assert checked.verdicts[0].reason == "1 iban, 1 email"
    assert checked.verdicts[0].text == checked.text


def test_a_flag_changes_nothing() -> None:
    checked = check(IBAN, [rail("personal_data", "flag")], source="answer")
    assert checked.text == IBAN
    assert [verdict.decision for verdict in checked.verdicts] == ["flag"]


def test_the_first_rail_that_blocks_ends_the_check() -> None:
    checked = check(IBAN, [rail("personal_data"), rail("length")], source="answer")
    assert [verdict.rail for verdict in checked.verdicts] == ["personal_data"]
    with pytest.raises(Blocked, match="Guardrail 'personal_data' stopped the answer: 1 iban"):
        checked.raise_if_blocked()


def test_a_rail_reads_what_the_rail_before_it_left() -> None:
    checked = check(IBAN, [rail("personal_data", "redact"), rail("personal_data")], source="answer")
    assert checked.blocked is None


def test_a_reason_never_quotes_what_was_found() -> None:
    checked = check(IBAN, [rail("personal_data")], source="user")
    assert "3704" not in checked.verdicts[0].reason


@rails.register("broken_for_a_test")
@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Fails on every text."""

    reach: ClassVar[Reach] = "local"
    redacts: ClassVar[bool] = False

    def look(self, text: str, scene: Scene, *, start: int = 0) -> Found:
        raise ZeroDivisionError("out of order")

    def fingerprint(self) -> str:
        return "1"


def test_a_rail_that_fails_blocks_or_not_as_the_release_says() -> None:
    strict = check("x", [rail("broken_for_a_test")], source="user", when_undecided="block")
    assert strict.blocked is not None
    assert strict.blocked.decision == "undecided"
    assert "ZeroDivisionError" in strict.blocked.reason
    lenient = check("x", [rail("broken_for_a_test"), rail("length")], source="user", when_undecided="allow")
    assert lenient.blocked is None
    assert [verdict.decision for verdict in lenient.verdicts] == ["undecided", "allow"]


def test_a_stream_treats_a_failing_rail_like_a_whole_text() -> None:
    from slipway.guard.stream import StreamChecker

    strict = StreamChecker([rail("broken_for_a_test")], hold_back=16)
    strict.feed("plain words")
    with pytest.raises(Blocked, match="ZeroDivisionError"):
        strict.finish()
    lenient = StreamChecker([rail("broken_for_a_test")], hold_back=16, when_undecided="allow")
    assert lenient.feed("plain words") + lenient.finish() == "plain words"
    assert lenient.verdicts[0].decision == "undecided"


def test_an_unknown_rail_is_named_with_its_neighbour() -> None:
    with pytest.raises(UnknownBackend, match="Did you mean 'secrets'"):
        check("x", [rail("secret")], source="user")


LENGTHS = [
    pytest.param({"max_characters": 3}, "abc", False, id="as long as allowed"),
    pytest.param({"max_characters": 3}, "abcd", True, id="too long"),
    pytest.param({"min_characters": 3}, "ab", True, id="too short"),
]


@pytest.mark.parametrize(("settings", "text", "fires"), LENGTHS)
def test_length_has_two_bounds(settings: dict[str, object], text: str, fires: bool) -> None:
    assert (check(text, [rail("length", **settings)], source="user").blocked is not None) == fires


SCHEMA = '{"type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}}}'
ANSWERS = [
    pytest.param('{"answer": "yes"}', None, id="fits"),
    pytest.param('```json\n{"answer": "yes"}\n```', None, id="fits in a code block"),
    pytest.param('{"answer": 1}', "$.answer is number, not string", id="wrong type"),
    pytest.param("{}", "lacks 'answer'", id="lacks a key"),
    pytest.param("Sure! Here it is", "it is not JSON", id="no JSON"),
    pytest.param('{"answer": NaN}', "it is not JSON", id="a number that JSON does not have"),
    pytest.param("[" * 100_000, "it is not JSON", id="too deep"),
]


@pytest.mark.parametrize(("text", "reason"), ANSWERS)
def test_an_answer_is_held_against_the_schema_of_its_prompt(text: str, reason: str | None) -> None:
    checked = check(text, [rail("schema")], source="answer", output_schema=SCHEMA)
    if reason is None:
        assert checked.blocked is None
    else:
        assert checked.blocked is not None
        assert reason in checked.blocked.reason


def settings_with(**guard: object):  # type: ignore[no-untyped-def]
    return parse_settings({"application": {"name": "x"}, "guard": guard})


def test_the_default_guardrails_are_pinned_by_hash() -> None:
    first, second = guardrails_from_settings(settings_with()), guardrails_from_settings(settings_with())
    assert first == second
    assert len(first.hash) == 64
    other = guardrails_from_settings(settings_with(when_undecided="allow"))
    assert other.hash != first.hash


def test_a_list_of_kinds_becomes_one_setting() -> None:
    parts = guardrails_from_settings(
        settings_with(before=[{"rail": "personal_data", "action": "redact", "kinds": ["email", "iban"]}])
    )
    assert parts.before[0].settings == {"kinds": "email, iban"}
    assert check("a@b.eu 1.2.3.4", parts.before, source="user").text == "[EMAIL] 1.2.3.4"


WRONG = [
    pytest.param({"action": "block"}, "the rail is not named", id="no name"),
    pytest.param({"rail": "personal"}, "Did you mean 'personal_data'", id="unknown rail"),
    pytest.param({"rail": "length", "action": "stop"}, "unknown action 'stop'", id="unknown action"),
    pytest.param({"rail": "length", "max": 3}, "unknown key 'max'", id="unknown key"),
    pytest.param({"rail": "length", "max_characters": "many"}, "max_characters|int", id="wrong type"),
    pytest.param({"rail": "length", "action": "redact"}, "nothing to redact", id="nothing to redact"),
    pytest.param({"rail": "personal_data", "kinds": "mail"}, "Did you mean 'email'", id="unknown kind"),
    pytest.param({"rail": "prompt_attack", "user_threshold": 2}, "below 1", id="threshold out of range"),
    pytest.param({"rail": "length", "max_characters": {"a": 1}}, "must be a text", id="a table as a value"),
]


@pytest.mark.parametrize(("table", "message"), WRONG)
def test_a_wrong_rail_in_the_settings_is_named_with_its_place(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as wrong:
        guardrails_from_settings(settings_with(after=[table]))
    assert "[guard] after[0]" in str(wrong.value)


@pytest.mark.parametrize(
    "unit", ["x", "x" * 1000 + " ", "ab=", "é"], ids=["one word", "long words", "signs", "letters"]
)
def test_a_long_text_that_offers_no_place_to_cut_it_takes_time_by_its_length(unit: str) -> None:
    rails = [RailSpec(name="secrets", action="redact"), RailSpec(name="personal_data", action="redact")]

    def seconds(characters: int) -> float:
        text = (unit * (characters // len(unit) + 1))[:characters]
        began = time.process_time()
        check(text, rails, source="answer")
        return time.process_time() - began

    seconds(10_000)
    assert seconds(1_600_000) < 16 * max(seconds(200_000), 0.005)
