"""Finds personal data with a fixed form: addresses, numbers and identifiers, by pattern, check digits and context.

One pass looks for places where something could begin (a digit after a word boundary, `@`, `://`); only there are the
patterns tried, each over a bounded stretch, so the time is linear in the length of the text. Names of people have no
form and are not found. No hit crosses two plain words or a line end, so a text may be cut there and searched in parts.
"""

import re
from collections.abc import Iterator

from slipway.domain.guardrail import Hit
from slipway.text.checksums import base58check, bech32, ean, luhn, mod97
from slipway.text.national_ids import national_id

KINDS = (
    "email",
    "phone",
    "iban",
    "card",
    "national_id",
    "passport",
    "date_of_birth",
    "ip",
    "mac",
    "wallet",
    "profile_url",
)
"""What can be found, in the order of the documentation."""

LOOK_BACK = 48
"""Characters before a number in which words such as "phone" count as context."""

LONGEST_BEGINNING = 20
"""Characters that may stand before the first digit: four groups of an IPv6 address."""

_DIGIT = re.compile(r"\d")
_ANCHOR = re.compile(
    r"(?<![^\W_])(?:"
    r"(?P<bech>[bB][cC]1)"
    r"|(?P<number>[+(]{0,2}\d)"
    r"|(?P<letters>[A-Za-z]{1,6}\d|[A-Z]{1,2}[ -]\d)"
    r"|(?P<month>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.? \d)"
    r"|(?P<hexadecimal>[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{2})"
    r")"
)
_RUN = re.compile(r"[+(]{0,2}\d(?:(?:[ \u00a0]?[().\-/]{0,2}[ \u00a0]?)?\d){0,30}+\)?")
_V4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w]|\.\d)")
_HEX_GROUPS = re.compile(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})(?![\w:-])")
_ETHEREUM = re.compile(r"0x[0-9A-Fa-f]{40}(?!\w)")
_BITCOIN = re.compile(r"[13][1-9A-HJ-NP-Za-km-z]{25,34}(?!\w)")
_BECH32 = re.compile(r"bc1[02-9ac-hj-np-z]{11,71}(?!\w)|BC1[02-9AC-HJ-NP-Z]{11,71}(?!\w)")
_IBAN = re.compile(r"[A-Za-z]{2}\d\d(?:[ \-]?[A-Za-z0-9]){11,30}+")
_CODE = re.compile(r"[A-Za-z0-9]{1,20}(?:[ \-+.][A-Za-z0-9]{1,10}){0,5}")
_EXTENSION = re.compile(r" ?(?:x|ext\.?) ?\d{1,6}(?!\w)")
_CARD_GROUPS = re.compile(r"\d{4}(?:[ -]\d{4}){3}|\d{4}[ -]\d{6}[ -]\d{4,5}")
_SINGLES = re.compile(r"(?<!\d)\d(?:[ \-./]\d){3}(?!\d)")
"""Single digits in a row are a list, no number."""
# Scripts that are written without spaces end a word: `00我的电话是my_number` is three.
_WORD = re.compile(r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_BEFORE_AT = re.compile(r"[A-Za-z0-9\u00c0-\u024f_.+%'\-]{1,64}")
_AFTER_AT = re.compile(r"[A-Za-z0-9\u00c0-\u024f-]{1,63}(?:\.[A-Za-z0-9\u00c0-\u024f-]{1,63}){1,8}+")
_PROFILE = re.compile(
    r"https?://[A-Za-z0-9.\-:]{1,253}/(?:[A-Za-z0-9_\-.]{1,40}/){0,3}"
    r"(?:users?|profiles?|people|members?|u|in|author|account)/@?[A-Za-z0-9_.\-%]{2,64}",
    re.I,
)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d\d)"
    r"|\d{1,2}(?:st|nd|rd|th|\.)?[ ](?:of )?[A-Za-z\u00c0-\u024f]{3,10}\.?,?[ ](?:de )?\d{4}"
)
_MONTH_FIRST = re.compile(r"[A-Z][a-z]{2,8}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}")

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![\w-])")
_HEX_ID = re.compile(r"\d+[A-Fa-f][0-9A-Fa-f]{18,126}(?!\w)")
"""Ids that machines give, from 20 digits on: in what programs send there are many, and none is about a person."""
_GROUPS_OF_UUID = (9, 14, 19, 24)
"""Where the groups after the first begin."""

_SEPARATOR = re.compile(r"[ \-+.]")
_GOES_ON = re.compile(r"[-/.]?\d")

_IBAN_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FO GL NL",
    19: "MK SI",
    20: "AT BA EE KZ LT LU XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HU LB PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU",
    31: "MT SC",
    32: "LC",
}
"""Countries by the length of their IBANs (SWIFT IBAN registry)."""
_IBAN_LENGTHS = {country: length for length, countries in _IBAN_COUNTRIES.items() for country in countries.split()}

_PHONE_WORDS = re.compile(
    r"phone|\btel\b|tel[.:]|t[eé]l[eé]f|telef|mobil|mobiel|m[oó]vil|celular|\bcell\b|\bcall\b|calls|called|"
    r"calling|fax|whatsapp|\breach|contact|handy|\bgsm\b|\bsms\b|text me|\bdial|messages? to|answering at|"
    r"\bring\b|rufnummer|hotline",
    re.I,
)
_ID_WORDS = re.compile(
    r"\bid\b|\bssn|social security|national|identi|insurance|\btax|citizen|\bnin\b|\bnino\b|pesel|\bbsn\b|"
    r"burgerservice|\bcpf\b|\bcnp\b|codice fiscale|\bnif\b|\bnie\b|\bdni\b|\bnir\b|s[eé]curit[eé] sociale|"
    r"steuer|sozialvers|rentenvers|aadhaar|\bpan\b|personnummer|personal number|f[oø]dselsnummer|\bcpr\b|hetu|"
    r"rijksregister|registre national|\bsin\b|\btfn\b|contribuinte|numer|nummer|licen[cs]e",
    re.I,
)
_CARD_WORDS = re.compile(r"card|karte|carte|tarjeta|carta|kaart|karta|visa|maestro|debit|credit", re.I)
_BIRTH_WORDS = re.compile(
    r"\bborn\b|birth|\bdob\b|\bd\.o\.b|geboren|geburt|\bn[eé]e? le\b|naissance|nacid[oa]|nacimiento|"
    r"nascid[oa]|nascita|\bnat[oa] il\b|geboorte|urodz|f[oö]dd|f[oø]dt|syntynyt",
    re.I,
)
_PASSPORT_WORDS = re.compile(r"passport|passeport|reisepass|pasaporte|passaporto|paspoort|paszport", re.I)
_OTHER_NUMBERS = re.compile(
    r"\border|invoice|batch|ticket|isbn|issn|version|build|error|serial|tracking|\bref\b|reference|article|"
    r"\bsku\b|commit|bestell|rechnung|factura|facture|timestamp",
    re.I,
)
_VERSION_WORDS = re.compile(r"(?:\bv|version|build|release|firmware|\bos)[ :=]*$", re.I)
_NOT_A_PERSONS_IP = ("0.", "127.", "255.")

_INTERNATIONAL = re.compile(r"(?:\+|00)[ ]?[1-9]")
_BRACKETS = re.compile(r"\(\+?\d{1,5}\)[ \-.]?\d")
_NORTH_AMERICA = re.compile(r"(?:1[ \-.])?\(?[2-9]\d\d\)?[ \-.][2-9]\d\d[ \-.]\d{4}")
_GROUPS = re.compile(r"\d{2,4}(?:[ \-/.]\d{2,5}){1,4}")
_THOUSANDS = re.compile(r"\d{1,3}(?:[.]\d{3})+")


def find_personal_data(text: str, kinds: frozenset[str] = frozenset(KINDS), *, start: int = 0) -> list[Hit]:
    """Hits that begin at `start` or later, in order, none overlapping. Offsets are characters of `text`."""
    hits: list[Hit] = []
    if "@" in text and "email" in kinds:
        hits += _emails(text, start)
    if "://" in text and "profile_url" in kinds:
        hits += [Hit(kind="profile_url", start=url.start(), end=url.end()) for url in _PROFILE.finditer(text, start)]
    numbers = [hit for hit in _numbers(text, start) if hit.kind in kinds]
    if not hits:
        return numbers
    return without_overlaps(hits + numbers) if numbers else without_overlaps(hits)


def without_overlaps(hits: list[Hit]) -> list[Hit]:
    """Hits in order; of two that overlap, the one that begins first stays, then the longer."""
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
        if not kept or hit.start >= kept[-1].end:
            kept.append(hit)
    return kept


def _emails(text: str, start: int) -> Iterator[Hit]:
    """Every `@` is a place to look left (64 characters, RFC 5321) and right."""
    at = text.find("@", start)
    while at >= 0:
        before = _BEFORE_AT.match(text[max(start, at - 64) : at][::-1])
        after = _AFTER_AT.match(text, at + 1)
        if before and after:
            local = before.group()[::-1].lstrip(".'-")
            domain = after.group().rstrip("-")
            last = domain.rpartition(".")[2]
            if local and not local.endswith(".") and len(last) >= 2 and last.isalpha():
                yield Hit(kind="email", start=at - len(local), end=at + 1 + len(domain))
        at = text.find("@", at + 1)


def _numbers(text: str, start: int) -> Iterator[Hit]:
    """What begins with a digit, or with a few letters and a digit; stretches without a digit are passed over."""
    position = start
    while digit := _DIGIT.search(text, position):
        anchor = _ANCHOR.search(text, max(position, digit.start() - LONGEST_BEGINNING))
        if anchor is None:
            return
        begin = anchor.start()
        kind, end = _at(text, begin, anchor.lastgroup or "")
        if kind:
            yield Hit(kind=kind, start=begin, end=end)
        position = max(end, begin + 1)


def _at(text: str, begin: int, anchor: str) -> tuple[str, int]:
    """What stands at one place, and where to look on: its kind is empty where there is nothing."""
    if ":" in text[begin : begin + 5] and (found := _hexadecimal(text, begin)):
        return found
    if anchor == "bech":
        if (match := _BECH32.match(text, begin)) and bech32(match.group()):
            return "wallet", match.end()
        anchor = "letters"
    if anchor == "hexadecimal":
        return "", begin + 1
    if anchor == "month":
        match = _MONTH_FIRST.match(text, begin)
        if match and _said(_BIRTH_WORDS, text, begin):
            return "date_of_birth", match.end()
        return "", begin + 3
    if anchor == "letters":
        return _after_letters(text, begin)
    return _after_digit(text, begin)


def _machine_id(text: str, begin: int) -> int:
    """Where an id ends that a machine gave, of which a place is part; 0 where there is none."""
    if found := _UUID.match(text, begin) or _HEX_ID.match(text, begin):
        return found.end()
    if begin and text[begin - 1] == "-":
        for back in _GROUPS_OF_UUID:
            if begin >= back and (found := _UUID.match(text, begin - back)):
                return found.end()
    return 0


def _hexadecimal(text: str, begin: int) -> tuple[str, int] | None:
    if match := _MAC.match(text, begin):
        return "mac", match.end()
    match = _HEX_GROUPS.match(text, begin)
    if match is None:
        return None
    address = match.group().rstrip(":") if not match.group().endswith("::") else match.group()
    if _is_ipv6(address):
        return "ip", begin + len(address)
    return None


def _is_ipv6(text: str) -> bool:
    """Full or shortened IPv6; `a::b` alone is more often code than an address."""
    if text.count(":") < 3 or not any(sign.isdigit() for sign in text):
        return False
    import ipaddress

    try:
        return not ipaddress.IPv6Address(text).is_loopback
    except ValueError:
        return False


def _after_letters(text: str, begin: int) -> tuple[str, int]:
    """IBANs, national numbers and passports that begin with letters."""
    if id_end := _machine_id(text, begin):
        return "", id_end
    if (match := _IBAN.match(text, begin)) and (end := _iban_end(match.group())):
        return "iban", begin + end
    if match := _MAC.match(text, begin):
        return "mac", match.end()
    token = _WORD.match(text, begin)
    after_token = token.end() if token else begin + 1
    for candidate in _prefixes(text, begin):
        certainty = national_id(candidate)
        if certainty == "sure" or (certainty and _said_last(_ID_WORDS, _PHONE_WORDS, text, begin)):
            return "national_id", begin + len(candidate)
    if token and 6 <= len(token.group()) <= 10 and _said(_PASSPORT_WORDS, text, begin):
        return "passport", after_token
    return "", after_token


def _iban_end(candidate: str) -> int:
    """Length of the IBAN at the start of a candidate, or 0."""
    length = _IBAN_LENGTHS.get(candidate[:2].upper())
    if length is None:
        return 0
    compact: list[str] = []
    for place, sign in enumerate(candidate):
        if sign not in " -":
            compact.append(sign)
        if len(compact) == length:
            rest = candidate[place + 1 : place + 2]
            return place + 1 if not rest.isalnum() and mod97("".join(compact).upper()) else 0
    return 0


def _prefixes(text: str, begin: int) -> Iterator[str]:
    """Groups at a place, joined by single separators: all of them, then one fewer, to the first alone."""
    match = _CODE.match(text, begin)
    if match is None or len(match.group()) < 8:
        return
    candidate = match.group()
    ends = [separator.start() for separator in _SEPARATOR.finditer(candidate)][::-1]
    if not text[match.end() : match.end() + 1].isalnum():
        ends.insert(0, len(candidate))
    elif len(candidate) <= 10:
        return
    for end in ends or [len(candidate) - 1]:
        if end < 8:
            return
        if end <= 24:
            yield candidate[:end]


def _after_digit(text: str, begin: int) -> tuple[str, int]:
    """Numbers of all kinds."""
    run = _RUN.match(text, begin)
    if run is None:
        return "", begin + 1
    shown = run.group()
    if begin > 1 and text[begin - 1] in ".," and text[begin - 2].isdigit():
        return "", _end_of_word(text, run.end())
    if len(shown) < 6 and not text[run.end() : run.end() + 1].isalpha():
        if (match := _DATE.match(text, begin)) and _said(_BIRTH_WORDS, text, begin):
            return "date_of_birth", match.end()
        return "", run.end()
    if id_end := _machine_id(text, begin):
        return "", id_end
    if shown.startswith("0") and (match := _ETHEREUM.match(text, begin)):
        return "wallet", match.end()
    if (match := _BITCOIN.match(text, begin)) and base58check(match.group()):
        return "wallet", match.end()
    if match := _V4.match(text, begin):
        if match.group().startswith(_NOT_A_PERSONS_IP) or _said(_VERSION_WORDS, text, begin):
            return "", match.end()
        return "ip", match.end()
    if match := _DATE.match(text, begin):
        if _said(_BIRTH_WORDS, text, begin):
            return "date_of_birth", match.end()
        if not _GOES_ON.match(text, match.end()):
            return "", match.end()
    if match := _MAC.match(text, begin):
        return "mac", match.end()
    return _number(text, begin, shown, run.end())


class _Before:
    """What stands shortly before a place; it is read once for each kind of word, however many candidates there are."""

    __slots__ = ("_begin", "_known", "_text")

    def __init__(self, text: str, begin: int) -> None:
        self._text, self._begin = text, begin
        self._known: dict[re.Pattern[str], bool] = {}

    def says(self, words: re.Pattern[str]) -> bool:
        known = self._known.get(words)
        if known is None:
            known = self._known[words] = _said(words, self._text, self._begin)
        return known


def _number(text: str, begin: int, shown: str, end: int) -> tuple[str, int]:
    """Cards, national numbers, passports and phones, longest candidate first."""
    digits = _digits(shown)
    before = _Before(text, begin)
    if _SINGLES.search(shown):
        return "", end
    for candidate in _prefixes(text, begin):
        certainty = national_id(candidate)
        if certainty == "sure" or (certainty and _said_last(_ID_WORDS, _PHONE_WORDS, text, begin)):
            return "national_id", begin + len(candidate)
    extension = _EXTENSION.match(text, end)
    if extension and _is_phone(shown, digits, before):
        return "phone", extension.end()
    if text[end : end + 1].isalpha() or text[end : end + 1] == "_":
        return "", _end_of_word(text, end)
    if len(digits) == 13 and digits.startswith(("978", "979")) and ean(digits):
        return "", end
    candidate = shown.rstrip(")") if "(" not in shown else shown
    while True:
        digits = _digits(candidate)
        if len(digits) < 7:
            break
        if len(digits) > 19:
            pass
        elif _is_card(candidate, digits, before):
            return "card", begin + len(candidate)
        elif _is_phone(candidate, digits, before):
            return "phone", begin + len(candidate)
        elif 6 <= len(digits) <= 9 and digits == candidate and before.says(_PASSPORT_WORDS):
            return "passport", begin + len(candidate)
        cut = max(candidate.rfind(" "), candidate.rfind("\u00a0"))
        if cut < 0 or _CARD_GROUPS.fullmatch(candidate):
            break
        candidate = candidate[:cut].rstrip(" -/.(")
    first_space = re.search(r"[ \u00a0]", shown)
    if first_space is None or 13 <= len(_digits(shown)) <= 19:
        return "", end
    return "", begin + first_space.end()


def _is_card(candidate: str, digits: str, before: _Before) -> bool:
    """A number of a card scheme (ISO/IEC 7812 prefixes) with a right check digit."""
    size = len(digits)
    if not 12 <= size <= 19 or "." in candidate or "/" in candidate or not candidate[0].isdigit() or not luhn(digits):
        return False
    four = int(digits[:4])
    if digits[0] == "4":
        known = size in (13, 16, 19)
    elif 5100 <= four <= 5599 or 2221 <= four <= 2720:
        known = size == 16
    elif digits[:2] in ("34", "37"):
        known = size == 15
    elif 3000 <= four <= 3059 or digits[:2] in ("36", "38", "39"):
        known = size in (14, 16)
    elif 3528 <= four <= 3589:
        known = 16 <= size <= 19
    elif four in (2131, 1800):
        known = size == 15
    elif digits.startswith(("6011", "65", "62", "644", "645", "646", "647", "648", "649")):
        known = 16 <= size <= 19
    else:
        known = False
    # Maestro and some older ranges have no clear prefix: only where the text speaks of a card.
    return known or before.says(_CARD_WORDS)


def _is_phone(candidate: str, digits: str, before: _Before) -> bool:
    """A phone number: written internationally, in a known grouping, or after a word such as "phone"."""
    size = len(digits)
    if size > 15 or candidate.count("(") != candidate.count(")"):
        return False
    if _INTERNATIONAL.match(candidate) and size >= 8 and (candidate[0] == "+" or candidate != digits or size >= 11):
        return True
    if candidate.startswith("("):
        return _BRACKETS.match(candidate) is not None and 7 <= size <= 13
    if _NORTH_AMERICA.fullmatch(candidate):
        return True
    if before.says(_OTHER_NUMBERS):
        return False
    if size > 13 or _THOUSANDS.fullmatch(candidate):
        return False
    if before.says(_PHONE_WORDS):
        return True
    if candidate[0] == "0" and candidate[1:2] not in ("", "0"):
        return (9 <= size <= 12) if candidate != digits else size in (10, 11)
    return (
        size >= 9 and _GROUPS.fullmatch(candidate) is not None and "." not in candidate and len(candidate) - size >= 2
    )


def _said(words: re.Pattern[str], text: str, begin: int) -> bool:
    """Whether one of the words stands shortly before a place."""
    return words.search(text, max(0, begin - LOOK_BACK), begin) is not None


def _said_last(words: re.Pattern[str], others: re.Pattern[str], text: str, begin: int) -> bool:
    """Whether one of the words stands shortly before a place, and none of the others after it."""
    window = max(0, begin - LOOK_BACK)
    last = max((match.end() for match in words.finditer(text, window, begin)), default=-1)
    return last >= 0 and others.search(text, last, begin) is None


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _end_of_word(text: str, position: int) -> int:
    match = _WORD.match(text, position)
    return match.end() if match else position
