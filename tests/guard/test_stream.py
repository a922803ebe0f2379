"""A stream through the rails gives what the whole text gives, however it is split."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.domain.errors import Blocked
from slipway.domain.guardrail import RailSpec
from slipway.guard.checker import check
from slipway.guard.cuts import LONGEST, last_cut, pieces
from slipway.guard.stream import StreamChecker

REDACT = (RailSpec(name="personal_data", action="redact"), RailSpec(name="secrets", action="redact"))
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "MIIEowIBAAKCAQEA0123456789abcdefGHIJ+/KLmnop\n" * 6
    + "-----END RSA PRIVATE KEY-----"
)

FRAGMENTS = st.sampled_from(
    [
        "a@b.eu",
        "jane.doe@mail.example.co.uk",
        "DE89 3704 0044 0532 0130 00",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        "4111 1111 1111 1111",
        "4111-1111",
        "+49 (0)30 1234-5678",
        "(0113) 496 0246",
        "763-55-4254",
        "AB 12 34 56 C",
        "my national number is 597283400",
        "phone 4673395",
        "born on 3 May 1980",
        "born May 3, 1980",
        "202.185.155.28",
        "633:e812:a2c8:af8b:1608:ebeb:aa5d:3c51",
        "de:d0:c7:e6:7b:f3",
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        "https://x.org/users/jane_d",
        "sk-WDbLE6ZcugmlwnLpMTEMGoCl5rzl6W7tOJ80JE2qF4z69vQJ",
        'password = "hunter2!x"',
        "my password is Tr0ub4dor&3",
        "Bearer 9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c",
        "postgres://app:s3cr3tpw@db:5432/x",
        "-----BEGIN PRIVATE KEY-----",
        KEY,
        "the warranty covers the housing but not the bulb",
        "THE WHOLE SENTENCE IS LOUD",
        "1",
        "12",
        "2024-05-03",
        "x",
        "@",
        "+",
        "(",
        "我的电话是",
        "привет мир",
        "é",
    ]
)
GLUE = st.sampled_from(["", " ", ", ", ". ", "\n", ".\n", "|\n", ": ", "-", "  "])
TEXTS = st.lists(st.tuples(FRAGMENTS, GLUE), max_size=14).map(lambda parts: "".join(a + b for a, b in parts))


def stream(
    text: str, sizes: list[int], *, specs: tuple[RailSpec, ...] = REDACT, hold_back: int = 32
) -> tuple[str, StreamChecker]:
    """What comes out when the text goes in by pieces of these sizes, over and over."""
    checker = StreamChecker(specs, hold_back=hold_back)
    out, start, turn = [], 0, 0
    while start < len(text):
        size = sizes[turn % len(sizes)] if sizes else len(text)
        out.append(checker.feed(text[start : start + size]))
        start, turn = start + size, turn + 1
    out.append(checker.finish())
    return "".join(out), checker


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from([16, 40, 120]))
@example("see jane.doe@mail.example.co.uk now", [1], 16)
@example(KEY + " and more plain words follow here", [7], 16)
def test_any_split_gives_what_the_whole_text_gives(text: str, sizes: list[int], hold_back: int) -> None:
    whole = check(text, REDACT, source="answer")
    out, checker = stream(text, sizes, hold_back=hold_back)
    assert out == whole.text
    assert [(v.rail, v.decision, v.reason, v.hits) for v in checker.verdicts] == [
        (v.rail, v.decision, v.reason, v.hits) for v in whole.verdicts
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(FRAGMENTS, GLUE), min_size=40, max_size=90), st.integers(50, 900), st.booleans())
def test_long_texts_without_a_cut_are_cut_at_the_same_places(
    parts: list[tuple[str, str]], size: int, loud: bool
) -> None:
    text = "".join(a + b for a, b in parts)
    text = (text.upper() if loud else text.replace(" ", "_")) * 4
    whole = check(text, REDACT, source="answer")
    assert stream(text, [size])[0] == whole.text


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_a_stream_is_blocked_when_the_whole_text_is_and_lets_out_a_prefix_only(text: str, sizes: list[int]) -> None:
    specs = (RailSpec(name="secrets", action="redact"), RailSpec(name="personal_data", action="block"))
    whole = check(text, specs, source="answer")
    allowed = check(text, specs[:1], source="answer").text
    checker = StreamChecker(specs, hold_back=16)
    out, blocked = "", False
    try:
        start, turn = 0, 0
        while start < len(text):
            out += checker.feed(text[start : start + sizes[turn % len(sizes)]])
            start, turn = start + sizes[turn % len(sizes)], turn + 1
        out += checker.finish()
    except Blocked:
        blocked = True
    assert blocked == (whole.blocked is not None)
    assert allowed.startswith(out)


def test_plain_words_come_out_before_the_stream_ends() -> None:
    checker = StreamChecker(REDACT, hold_back=40)
    out = "".join(checker.feed(word + " ") for word in ["the", "lamp", "has", "a", "warranty"] * 30)
    assert len(out) > 600 - 120


def test_a_number_that_may_still_grow_is_held_back() -> None:
    checker = StreamChecker(REDACT, hold_back=32)
    out = checker.feed("please pay the whole amount to the account DE89 3704 0044 0532 ")
    out += checker.feed("0130 00 and tell us when you have done so, thank you very much indeed")
    assert "DE89" not in out
    assert (out + checker.finish()).count("[IBAN]") == 1


def test_a_rail_that_must_see_everything_holds_everything() -> None:
    specs = (RailSpec(name="schema", settings={"schema": '{"type": "object"}'}),)
    checker = StreamChecker(specs)
    assert checker.feed('{"a": ') + checker.feed("1}") == ""
    assert checker.finish() == '{"a": 1}'


def test_a_rail_that_only_flags_holds_nothing_and_still_gives_its_verdict() -> None:
    specs = (RailSpec(name="schema", action="flag", settings={"schema": '{"type": "object"}'}),)
    out, checker = stream("these are plain words and no object at all, as everybody can see at once", [9], specs=specs)
    assert out.startswith("these are plain")
    assert [verdict.decision for verdict in checker.verdicts] == ["flag"]


def test_a_long_answer_is_blocked_as_soon_as_it_is_too_long() -> None:
    checker = StreamChecker((RailSpec(name="length", settings={"max_characters": 100}),), hold_back=32)
    words = iter(["plain words go here "] * 100)
    with pytest.raises(Blocked, match="more than 100 characters"):
        sum(len(checker.feed(piece)) for piece in words)
    assert len(list(words)) > 90


def test_a_short_answer_is_known_only_at_the_end() -> None:
    checker = StreamChecker((RailSpec(name="length", settings={"min_characters": 50}),), hold_back=32)
    assert checker.feed("too short") == ""
    with pytest.raises(Blocked, match="fewer than 50"):
        checker.finish()


def test_without_rails_nothing_is_held() -> None:
    checker = StreamChecker(())
    assert (checker.feed("a"), checker.finish()) == ("a", "")


CUTS = [
    pytest.param("the lamp was", 4, id="between plain words"),
    pytest.param("call 0113 496", 0, id="not before a number"),
    pytest.param("RSA PRIVATE KEY", 0, id="not between capitals"),
    pytest.param("a line.\nnext", 8, id="after a line that ends in a stop"),
    pytest.param("MIIEow\nABCDEF", 0, id="not after a line of a key"),
    pytest.param("你好", 1, id="between signs of a script without spaces"),
]


@pytest.mark.parametrize(("text", "place"), CUTS)
def test_a_cut_lies_where_no_pattern_crosses(text: str, place: int) -> None:
    assert last_cut(text, 0, len(text)) == place


def test_pieces_cover_the_text_and_are_not_too_long() -> None:
    text = "7" * (3 * LONGEST + 5)
    spans = list(pieces(text))
    assert "".join(text[a:b] for a, b in spans) == text
    assert max(b - a for a, b in spans) <= LONGEST


def test_a_stream_of_many_small_pieces_takes_time_in_proportion_to_its_length() -> None:
    import time

    def cpu(length: int) -> float:
        text = "1234567 " * (length // 8)
        began = time.process_time()
        stream(text, [4])
        return time.process_time() - began

    cpu(2000)
    assert cpu(48_000) < 0.05 + 30 * cpu(6_000)


def test_a_number_joined_to_words_of_another_script_is_found_alike_in_a_stream() -> None:
    one = "a@b.eu" * 14 + "DE89_3704_0044_0532_0130_00我的电话是my_national_number_is_597283400_a@b.eu"
    text = (one + "DE89_3704_0044_0532_0130_00" + "a@b.eu" * 21) * 4
    assert "[NATIONAL_ID]" in check(text, REDACT, source="answer").text
    assert stream(text, [50])[0] == check(text, REDACT, source="answer").text
