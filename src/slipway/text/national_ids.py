"""Numbers that states give to people, told apart by form, date and check digits.

Forms and check digits follow the issuing states' own rules; sources stand beside each rule. `sure` numbers are
accepted where they stand. The others could be any number, and count only after words such as "social security".
"""

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from slipway.text.checksums import ean, luhn, verhoeff, weighted

Certainty = Literal["sure", "with_context"]


class Rule(NamedTuple):
    """`form` must match the whole candidate; `check` gets its digits and letters only, in capitals, `sizes` many."""

    country: str
    sizes: tuple[int, ...]
    form: re.Pattern[str]
    check: Callable[[str], bool]
    certainty: Certainty


def _any(_: str) -> bool:
    return True


def _is_date(month: str, day: str) -> bool:
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def _us_ssn(text: str) -> bool:
    # Area 000 and 666, group 00 and serial 0000 were never given out (Social Security Administration).
    return text[:3] not in ("000", "666") and text[3:5] != "00" and text[5:] != "0000"


def _spain(text: str) -> bool:
    # Real Decreto 1553/2005: the letter is the number modulo 23; X, Y, Z of a foreigner's number stand for 0, 1, 2.
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


def _france(text: str) -> bool:
    # Key 97 - number mod 97; Corsica's departments 2A and 2B count as 19 and 18 (INSEE).
    number = text[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(text[13:])


_ITALY_ODD = dict(zip("0123456789", (1, 0, 5, 7, 9, 13, 15, 17, 19, 21), strict=True)) | dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)


def _italy(text: str) -> bool:
    # Decreto ministeriale 12 March 1974: odd places by table, even places by value.
    total = sum(
        _ITALY_ODD[sign] if place % 2 == 0 else int(sign, 36) - (10 if sign.isalpha() else 0)
        for place, sign in enumerate(text[:15])
    )
    return chr(ord("A") + total % 26) == text[15]


def _brazil(text: str) -> bool:
    # Receita Federal: two digits modulo 11.
    if len(set(text)) == 1:
        return False
    first = weighted(text[:9], tuple(range(10, 1, -1))) * 10 % 11 % 10
    second = weighted(text[:10], tuple(range(11, 1, -1))) * 10 % 11 % 10
    return text[9:] == f"{first}{second}"


def _poland(text: str) -> bool:
    # PESEL: century in the month (+20 for 2000–2099, …).
    check = -weighted(text[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10
    return check == int(text[10]) and _is_date(str(int(text[2:4]) % 20), text[4:6])


def _netherlands(text: str) -> bool:
    return weighted(text, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and text != "000000000"


def _romania(text: str) -> bool:
    check = weighted(text[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return int(text[12]) == (1 if check == 10 else check) and text[0] != "0" and _is_date(text[3:5], text[5:7])


def _sweden(text: str) -> bool:
    short = text[-10:]
    day = int(short[4:6])
    return luhn(short) and _is_date(short[2:4], str(day - 60 if day > 60 else day))


def _finland(text: str) -> bool:
    number = int(text[:6] + text[-4:-1])
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31] == text[-1] and _is_date(text[2:4], text[:2])


def _denmark(text: str) -> bool:
    return _is_date(text[2:4], text[:2])


def _norway(text: str) -> bool:
    first = -weighted(text[:9], (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = -weighted(text[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return text[9:] == f"{first}{second}" and _is_date(text[2:4], str(int(text[:2]) % 40))


def _belgium(text: str) -> bool:
    number, check = text[:9], int(text[9:])
    return check in (97 - int(number) % 97, 97 - int("2" + number) % 97)


def _germany_tax(text: str) -> bool:
    # ISO 7064 MOD 11,10; exactly one digit of the first ten stands there two or three times.
    product = 10
    for digit in text[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(text[10]) and len(set(text[:10])) in (8, 9)


def _portugal(text: str) -> bool:
    check = 11 - weighted(text[:8], (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return int(text[8]) == (0 if check >= 10 else check)


def _australia(text: str) -> bool:
    return weighted(text, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


_RULES = (
    Rule("us", (9,), re.compile(r"\d{3}-\d\d-\d{4}", re.I), _us_ssn, "sure"),
    Rule("us", (9,), re.compile(r"\d{3} \d\d \d{4}|\d{9}", re.I), _us_ssn, "with_context"),
    Rule("gb", (9,), re.compile(r"(?![DFIQUV])[A-Z](?![DFIQUVO])[A-Z] ?\d\d ?\d\d ?\d\d ?[A-D]", re.I), _any, "sure"),
    Rule("gb", (9,), re.compile(r"[A-Z]{2} ?\d\d ?\d\d ?\d\d ?[A-Z]|[A-Z]{2} \d{6} [A-Z]", re.I), _any, "with_context"),
    Rule("es", (9,), re.compile(r"(?:\d{8}|[XYZ]-?\d{7})-?[TRWAGMYFPDXBNJZSQVHLCKE]", re.I), _spain, "sure"),
    Rule(
        "fr",
        (15,),
        re.compile(r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", re.I),
        _france,
        "sure",
    ),
    Rule("it", (16,), re.compile(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", re.I), _italy, "sure"),
    Rule("br", (11,), re.compile(r"\d{3}\.\d{3}\.\d{3}-\d\d", re.I), _brazil, "sure"),
    Rule("br", (11,), re.compile(r"\d{11}", re.I), _brazil, "with_context"),
    Rule("pl", (11,), re.compile(r"\d{11}", re.I), _poland, "with_context"),
    Rule("nl", (9,), re.compile(r"\d{9}|\d{4}\.\d\d\.\d{3}", re.I), _netherlands, "with_context"),
    Rule("ro", (13,), re.compile(r"[1-9]\d{12}", re.I), _romania, "sure"),
    Rule("se", (10, 12), re.compile(r"(?:19|20)?\d{6}[-+]\d{4}", re.I), _sweden, "sure"),
    Rule("se", (10, 12), re.compile(r"(?:19|20)?\d{10}", re.I), _sweden, "with_context"),
    Rule("fi", (10, 11), re.compile(r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJKLMNPR-Y]", re.I), _finland, "sure"),
    Rule("dk", (10,), re.compile(r"\d{6}-?\d{4}", re.I), _denmark, "with_context"),
    Rule("no", (11,), re.compile(r"\d{6} ?\d{5}", re.I), _norway, "with_context"),
    Rule("be", (11,), re.compile(r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", re.I), _belgium, "sure"),
    Rule("be", (11,), re.compile(r"\d{11}", re.I), _belgium, "with_context"),
    Rule("de", (11,), re.compile(r"\d{11}|\d\d \d{3} \d{3} \d{3}", re.I), _germany_tax, "with_context"),
    Rule("de", (12,), re.compile(r"\d{8} ?[A-Z] ?\d{3}|\d\d \d{6} [A-Z] \d{3}", re.I), _any, "with_context"),
    Rule("pt", (9,), re.compile(r"[1235689]\d{8}|[1235689]\d\d \d{3} \d{3}", re.I), _portugal, "with_context"),
    Rule("ch", (13,), re.compile(r"756\.?\d{4}\.?\d{4}\.?\d\d", re.I), ean, "sure"),
    Rule("in", (12,), re.compile(r"[2-9]\d{3} \d{4} \d{4}", re.I), verhoeff, "sure"),
    Rule("in", (12,), re.compile(r"[2-9]\d{11}", re.I), verhoeff, "with_context"),
    Rule("in", (10,), re.compile(r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", re.I), _any, "with_context"),
    Rule("ca", (9,), re.compile(r"\d{3}[ -]\d{3}[ -]\d{3}", re.I), luhn, "with_context"),
    Rule("au", (9,), re.compile(r"\d{3} ?\d{3} ?\d{3}", re.I), _australia, "with_context"),
    Rule("mx", (18,), re.compile(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z\d]\d", re.I), _any, "sure"),
)

_BY_SIZE: dict[int, list[Rule]] = {}
for _one in _RULES:
    for _size in _one.sizes:
        _BY_SIZE.setdefault(_size, []).append(_one)

_OTHER = re.compile(r"[^0-9A-Za-z]")


def national_id(candidate: str) -> Certainty | None:
    """How surely a text is a national number, or None when it is none."""
    compact = _OTHER.sub("", candidate).upper()
    best: Certainty | None = None
    for rule in _BY_SIZE.get(len(compact), ()):
        if rule.form.fullmatch(candidate) and rule.check(compact):
            if rule.certainty == "sure":
                return "sure"
            best = rule.certainty
    return best
