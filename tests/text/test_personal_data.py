"""Personal data of fixed form: what is found, what is left alone, in linear time."""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slipway.text.checksums import base58check, bech32, ean, luhn, mod97, verhoeff
from slipway.text.national_ids import national_id
from slipway.text.personal_data import KINDS, find_personal_data
from slipway.text.secrets import find_secrets

FOUND = [
    pytest.param("write to a@b.eu", ["email:a@b.eu"], id="plain address"),
    pytest.param(
        "Mail: <o'neil+x@mail.example.co.uk>.", ["email:o'neil+x@mail.example.co.uk"], id="apostrophe and plus"
    ),
    pytest.param("müller@straße.de", ["email:müller@straße.de"], id="letters with marks"),
    pytest.param("a at b dot eu", [], id="spelled out: not caught, a known limit"),
    pytest.param("@handle and a@b", [], id="a handle and a host without a dot are no addresses"),
    pytest.param("my IBAN is DE89 3704 0044 0532 0130 00", ["iban:DE89 3704 0044 0532 0130 00"], id="IBAN in fours"),
    pytest.param("gb42nawi04454264788619", ["iban:gb42nawi04454264788619"], id="IBAN in small letters"),
    pytest.param("DE89 3704 0044 0532 0130 01", [], id="IBAN with a wrong check digit"),
    pytest.param(
        "IBAN: PL02 0499 3524 6242 5281 8575 4203\n", ["iban:PL02 0499 3524 6242 5281 8575 4203"], id="28 signs"
    ),
    pytest.param("card 4111 1111 1111 1111", ["card:4111 1111 1111 1111"], id="card in fours"),
    pytest.param("5284204540744780", ["card:5284204540744780"], id="bare card number"),
    pytest.param("Why was 4125083285329480 rejected?", [], id="16 digits that fail the check of a card"),
    pytest.param("call +49 (0)30 1234-5678 now", ["phone:+49 (0)30 1234-5678"], id="international phone"),
    pytest.param("(0113) 496 0246", ["phone:(0113) 496 0246"], id="area code in brackets"),
    pytest.param("502.566.0697x995", ["phone:502.566.0697x995"], id="phone with extension"),
    pytest.param("phone 4673395", ["phone:4673395"], id="seven digits after the word phone"),
    pytest.param("3715794756", [], id="ten bare digits without a word: not caught, a known limit"),
    pytest.param("Order 3715794756 is late", [], id="an order number"),
    pytest.param(
        "ids 11111111-2222-4333-8444-411111111111, abcdef12-3", [], id="an id of groups that holds a card number"
    ),
    pytest.param("commit 41111111a1111111111111111111", [], id="an id of hexadecimal digits"),
    pytest.param("a-12345678-1234-1234-1234-12345678901 20", [], id="nearly an id of groups"),
    pytest.param("id 550e8400-e29b-41d4-a716-446655440000 mail a@b.eu", ["email:a@b.eu"], id="what follows an id"),
    pytest.param("Population: 1.234.567 or 1,234,567", [], id="thousands"),
    pytest.param("SSN 763-55-4254", ["national_id:763-55-4254"], id="United States"),
    pytest.param("820205-6209", ["national_id:820205-6209"], id="Sweden"),
    pytest.param("820205-6208", [], id="Sweden with a wrong check digit"),
    pytest.param("076.763.782-81", ["national_id:076.763.782-81"], id="Brazil"),
    pytest.param("DNI 43950432P", ["national_id:43950432P"], id="Spain"),
    pytest.param("PLLSYV07S23G482I", ["national_id:PLLSYV07S23G482I"], id="Italy"),
    pytest.param("131052-308T", ["national_id:131052-308T"], id="Finland"),
    pytest.param("8076 4799 7011", ["national_id:8076 4799 7011"], id="India"),
    pytest.param("85.07.30-033.28", ["national_id:85.07.30-033.28"], id="Belgium"),
    pytest.param("AHV 756.9217.0769.85", ["national_id:756.9217.0769.85"], id="Switzerland"),
    pytest.param("AB 12 34 56 C", ["national_id:AB 12 34 56 C"], id="United Kingdom"),
    pytest.param("my national number is 597283400", ["national_id:597283400"], id="Netherlands, after a word"),
    pytest.param("Batch 597283400 finished", [], id="the same digits as a batch number"),
    pytest.param("passport C01X00T47", ["passport:C01X00T47"], id="passport after its word"),
    pytest.param("born on 3 May 1980 in Rome", ["date_of_birth:3 May 1980"], id="date of birth in words"),
    pytest.param("geboren am 03.05.1980", ["date_of_birth:03.05.1980"], id="date of birth in German"),
    pytest.param("born May 3, 1980", ["date_of_birth:May 3, 1980"], id="month first"),
    pytest.param("The meeting is on 2024-05-03.", [], id="a date that is nobody's birthday"),
    pytest.param("from 202.185.155.28 at 09:12", ["ip:202.185.155.28"], id="IPv4"),
    pytest.param("build v3.1.6.6", [], id="a version with four parts"),
    pytest.param("127.0.0.1 and 255.255.255.0", [], id="loopback and a mask"),
    pytest.param("at 633:e812:a2c8:af8b:1608:ebeb:aa5d:3c51", ["ip:633:e812:a2c8:af8b:1608:ebeb:aa5d:3c51"], id="IPv6"),
    pytest.param("std::dec::abs at 11:34:35", [], id="names of C++ and a time"),
    pytest.param("de:d0:c7:e6:7b:f3", ["mac:de:d0:c7:e6:7b:f3"], id="MAC address"),
    pytest.param(
        "0xe65f53e9421ce50211670eae679f02e8d28a7902",
        ["wallet:0xe65f53e9421ce50211670eae679f02e8d28a7902"],
        id="Ethereum",
    ),
    pytest.param("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", ["wallet:1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"], id="Bitcoin"),
    pytest.param(
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", ["wallet:bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"], id="SegWit"
    ),
    pytest.param("https://x.org/users/jane_d?x", ["profile_url:https://x.org/users/jane_d"], id="page of a user"),
    pytest.param("https://x.org/docs/users-guide", [], id="a page about users"),
    pytest.param("The book with ISBN 978-0-546-97813-1", [], id="a book"),
    pytest.param("pi is 3.14159265358979", [], id="a decimal"),
    pytest.param("", [], id="nothing"),
]


@pytest.mark.parametrize(("text", "expected"), FOUND)
def test_personal_data_is_found_where_it_stands(text: str, expected: list[str]) -> None:
    assert [f"{hit.kind}:{text[hit.start : hit.end]}" for hit in find_personal_data(text)] == expected


def test_only_the_kinds_that_were_asked_for_are_found() -> None:
    text = "a@b.eu, 202.185.155.28"
    assert [hit.kind for hit in find_personal_data(text, frozenset({"ip"}))] == ["ip"]


def test_hits_begin_at_the_start_that_was_named_and_what_stands_before_is_context() -> None:
    text = "my phone number is 4673395"
    assert [hit.kind for hit in find_personal_data(text, start=19)] == ["phone"]
    assert find_personal_data("a@b.eu 1", start=7) == []


SECRETS = [
    pytest.param(
        "key sk-WDbLE6ZcugmlwnLpMTEMGoCl5rzl6W7tOJ80JE2qF4z69vQJ", ["api_key"], id="key with a maker's prefix"
    ),
    pytest.param("AKIAUDZA14IDQSG01I6Y", ["api_key"], id="cloud access key"),
    pytest.param("ghp_qpK7vdPYcUQYjz9FMgEwA5N6SKWAWsF4D152", ["api_key"], id="token of a code host"),
    pytest.param("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVPmB92K27u", ["token"], id="JSON web token"),
    pytest.param(
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow" + "A1b2" * 20 + "\n-----END RSA PRIVATE KEY-----",
        ["private_key"],
        id="private key",
    ),
    pytest.param("-----BEGIN PRIVATE KEY-----\\n" + "Zm9v" * 16 + "\\n", ["private_key"], id="private key cut in JSON"),
    pytest.param("-----BEGIN PUBLIC KEY-----\nMIIEow\n-----END PUBLIC KEY-----", [], id="public key"),
    pytest.param('password = "hunter2!x"', ["password"], id="password in a setting"),
    pytest.param("my password is Tr0ub4dor&3.", ["password"], id="password in a sentence"),
    pytest.param("postgres://app:s3cr3tpw@db:5432/x", ["password"], id="password in a URL"),
    pytest.param("password: your-password-here", [], id="a placeholder"),
    pytest.param("The password is incorrect.", [], id="a sentence about passwords"),
    pytest.param("password = env:DB_PASSWORD", [], id="a reference to the environment"),
    pytest.param("Authorization: Bearer 9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c", ["token"], id="bearer token"),
    pytest.param("CLIENT_SECRET=9f8a7b6c5d4e3f2a1b0c", ["api_key"], id="secret in the environment"),
    pytest.param("commit 9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a", [], id="a hash of a commit"),
    pytest.param("sk-xxxxxxxxxxxxxxxxxxxxxxxx", [], id="a key of x"),
]


@pytest.mark.parametrize(("text", "expected"), SECRETS)
def test_secrets_are_found(text: str, expected: list[str]) -> None:
    assert [hit.kind for hit in find_secrets(text)] == expected


def test_a_token_of_no_known_form_is_found_on_request() -> None:
    text = "use Zx8Qw3Lp0VbN5mTyK7rDf2HsJ9cG4aUe here"
    assert find_secrets(text) == []
    assert [hit.kind for hit in find_secrets(text, unknown_tokens=True)] == ["token"]


CHECKS = [
    pytest.param(luhn, "4111111111111111", id="Luhn"),
    pytest.param(mod97, "DE89370400440532013000", id="IBAN"),
    pytest.param(verhoeff, "807647997011", id="Verhoeff"),
    pytest.param(ean, "9780306406157", id="EAN"),
    pytest.param(base58check, "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", id="base58check"),
    pytest.param(bech32, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", id="bech32"),
]


@pytest.mark.parametrize(("check", "right"), CHECKS)
def test_a_check_finds_every_change_of_one_sign(check, right: str) -> None:  # type: ignore[no-untyped-def]
    assert check(right)
    for place in range(4 if check is bech32 else 0, len(right)):
        for other in "0123456789":
            if other != right[place] and right[place].isdigit():
                assert not check(right[:place] + other + right[place + 1 :]), (place, other)


NATIONAL = [
    pytest.param("199025212147402", "sure", id="France"),
    pytest.param("5601013195300", "sure", id="Romania"),
    pytest.param("44051401359", "with_context", id="Poland"),
    pytest.param("65929970489", "with_context", id="Germany, tax"),
    pytest.param("15076500565", "with_context", id="Germany, pension form is free of check or other state"),
    pytest.param("046 454 286", "with_context", id="Canada"),
    pytest.param("11111111111", None, id="one digit eleven times"),
    pytest.param("hello", None, id="a word"),
]


@pytest.mark.parametrize(("number", "certainty"), NATIONAL)
def test_national_numbers_are_told_apart_by_form_and_check(number: str, certainty: str | None) -> None:
    assert national_id(number) == certainty


HOSTILE = [
    pytest.param("x-" * 8192 + "@", id="an address that never ends"),
    pytest.param("a@" * 8192, id="signs and letters"),
    pytest.param("a." * 8192 + "@b", id="dots"),
    pytest.param("1" * 16384, id="digits"),
    pytest.param("1 " * 8192, id="spaced digits"),
    pytest.param("(1" * 8192, id="brackets"),
    pytest.param("+1-" * 5461, id="phone signs"),
    pytest.param("1." * 8192, id="dotted digits"),
    pytest.param("a:" * 8192, id="colons"),
    pytest.param("DE89 " * 3276, id="beginnings of IBANs"),
    pytest.param("AB12" * 4096, id="letters and digits"),
    pytest.param("-----BEGIN PRIVATE KEY-----" * 606, id="keys that begin"),
    pytest.param("-----BEGIN PRIVATE KEY-----" + "A" * 16000, id="a key that never ends"),
    pytest.param("eyJ" + "a" * 8000 + "." + "eyJ" * 2700, id="a token that never ends"),
    pytest.param("password=" * 1820, id="passwords"),
    pytest.param("password " * 1820, id="passwords with spaces"),
    pytest.param("my_secret_token_key_" * 819, id="names of secrets"),
    pytest.param("https://a/users/" * 1024, id="pages of users"),
    pytest.param("http://" + "a:" * 8000 + "@", id="a URL with many colons"),
    pytest.param("born " + "1/" * 8000, id="dates"),
    pytest.param("phone " * 2730, id="words that are context"),
    pytest.param(" " * 16384, id="spaces"),
    pytest.param("bearer " * 2340, id="bearers"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_take_time_in_proportion_to_their_length(text: str) -> None:
    def cpu(sample: str) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            find_personal_data(sample)
            find_secrets(sample, unknown_tokens=True)
            best = min(best, time.process_time() - began)
        return best

    small, large = cpu(text[: len(text) // 8]), cpu(text)
    # Eight times the text: linear is 8, quadratic 64. The bound leaves room for a noisy machine.
    assert large < 0.02 + 30 * small


BITS = (
    *"0123456789ABab -+./()x:@,;=_\u00a0²١",
    *(
        "phone ",
        "card ",
        "passport ",
        "born ",
        "ID ",
        "ext ",
        "sk-",
        "key=",
        "Bearer ",
        "IBAN DE",
        "+49",
        "(0",
        "::",
        "0x",
    ),
)


@given(st.lists(st.sampled_from(BITS), max_size=60).map("".join))
@example("the byte 0x41 is A")
@example("0 x12")
def test_whatever_is_written_it_is_looked_through(text: str) -> None:
    for hit in (*find_personal_data(text), *find_secrets(text, unknown_tokens=True)):
        assert 0 <= hit.start < hit.end <= len(text)


DATA = Path(os.environ.get("SLIPWAY_SAFETY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data" / "safety"))


@pytest.mark.parametrize(("name", "least"), [("pii_own.jsonl", 0.98), ("pii_presidio_synth.jsonl", 0.97)])
def test_most_structured_personal_data_of_the_development_sets_is_found(name: str, least: float) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"the development data ({name}) is not here; set SLIPWAY_SAFETY_DATA")
    types = {"EMAIL_ADDRESS": "email", "IP_ADDRESS": "ip", "IBAN_CODE": "iban", "CREDIT_CARD": "card"}
    types |= {"PHONE_NUMBER": "phone", "NATIONAL_ID": "national_id", "US_SSN": "national_id"}
    right = expected = 0
    for line in (DATA / name).read_text(encoding="utf-8").rstrip("\n").split("\n"):
        row = json.loads(line)
        hits = {(hit.kind, hit.start, hit.end) for hit in find_personal_data(row["text"])}
        wanted = {(types[kind], start, end) for start, end, kind in row["spans"] if kind in types}
        right += len(hits & wanted)
        expected += len(wanted)
    assert right / expected > least


def test_every_kind_has_a_case() -> None:
    named = {entry.split(":")[0] for case in FOUND for entry in case.values[1]}
    assert named == set(KINDS)
