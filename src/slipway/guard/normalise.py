"""Undoes the tricks that hide an instruction from a detector: invisible signs, look-alikes, encodings, spacing.

The result is for detectors only; it is never sent on.
"""

import base64
import binascii
import codecs
import re
import unicodedata
from typing import NamedTuple

LONGEST_PEEK = 4000
"""Characters of decoded text that are looked at."""

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_TAGS = re.compile("[\U000e0001-\U000e007f]+")
_VARIATION = re.compile("[\U000e0100-\U000e01ef]+")
_LOOK_ALIKES = str.maketrans(
    "аеорсухкмтвнізѕјԁһӏԛԝАЕОРСУХКМТВНІЅЈΑΒΕΖΗΙΚΜΝΟΡΤΥΧαοιρνυκτɑɡıⅼ",
    "aeopcyxkmtbhizsjdhlqwAEOPCYXKMTBHISJABEZHIKMNOPTYXaoipvuktagil",
)
_WORD = re.compile(r"\w+")
_LATIN = re.compile(r"[A-Za-z]")
_FOREIGN = re.compile("[\u0370-\u03ff\u0400-\u052f\u0251\u0261\u0131\u217c]")
_SPACED = re.compile(r"(?<![^\W_])[A-Za-z](?:([ .\-_*])[A-Za-z](?=\1|(?![^\W_]))){4,}(?![^\W_])")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{24,}={0,2}(?![A-Za-z0-9+/=])")
_HEXADECIMAL = re.compile(r"(?<![A-Za-z0-9])(?:[0-9a-fA-F]{2}){16,}(?![A-Za-z0-9])")
_ROT13_WORDS = ("vtaber", "qvfertneq", "cebzcg", "vafgehpgvba", "cerivbhf")
_LEET = str.maketrans("013457@$", "oieastas")
_LEET_WORD = re.compile(r"(?<![\w@$])(?=[a-z@$]*[013457@$])(?=[\d@$]*[a-z])[a-z013457@$]{4,20}(?![\w@$])", re.I)


class Normal(NamedTuple):
    """`text` as a reader would see it; `hidden` is what was decoded from it; `tricks` names what was undone."""

    text: str
    hidden: str
    tricks: tuple[str, ...]


def normalise(text: str) -> Normal:
    """The text without disguises. Linear in its length."""
    tricks: list[str] = []
    hidden: list[str] = []
    if not text.isascii():
        text = _without_invisible(text, tricks, hidden)
        text = _latin(unicodedata.normalize("NFKC", text), tricks)
    if _SPACED.search(text):
        tricks.append("spaced letters")
        text = _SPACED.sub(lambda run: run.group()[::2], text)
    hidden += _decoded(text, tricks)
    return Normal(text, " ".join(hidden)[:LONGEST_PEEK], tuple(tricks))


def _without_invisible(text: str, tricks: list[str], hidden: list[str]) -> str:
    if tags := _TAGS.findall(text):
        # Tag characters mirror ASCII and are drawn by nothing (Unicode block E0000).
        shown = "".join(chr(ord(sign) - 0xE0000) for run in tags for sign in run if 0xE0020 <= ord(sign) < 0xE007F)
        if len(shown) > 8:
            hidden.append(shown)
            tricks.append("tag characters")
        text = _TAGS.sub("", text)
    if runs := _VARIATION.findall(text):
        tricks.append("variation selectors")
        hidden.append("".join(chr(ord(sign) - 0xE0100 + 16) for run in runs for sign in run if ord(sign) < 0xE01EF))
        text = _VARIATION.sub("", text)
    cleaned = _INVISIBLE.sub("", text)
    if len(text) - len(cleaned) > 4:
        tricks.append("invisible characters")
    return cleaned


def _latin(text: str, tricks: list[str]) -> str:
    """Look-alikes become Latin letters in words that mix scripts; whole words of another script stay."""
    if _FOREIGN.search(text) is None:
        return text
    mixed = 0

    def swap(word: re.Match[str]) -> str:
        nonlocal mixed
        if not (_FOREIGN.search(word.group()) and _LATIN.search(word.group())):
            return word.group()
        mixed += 1
        return word.group().translate(_LOOK_ALIKES)

    text = _WORD.sub(swap, text)
    if mixed > 1:
        tricks.append("look-alike letters")
    return text


def _decoded(text: str, tricks: list[str]) -> list[str]:
    """What base64, hexadecimal, rot13 and digits for letters hide, where it reads like text."""
    found: list[str] = []
    for match in _BASE64.finditer(text):
        raw = match.group().rstrip("=")[:LONGEST_PEEK]
        raw = raw[: len(raw) - 1] if len(raw) % 4 == 1 else raw
        try:
            plain = base64.b64decode(raw + "=" * (-len(raw) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        _keep(plain, "base64", found, tricks)
    for match in _HEXADECIMAL.finditer(text):
        _keep(bytes.fromhex(match.group()[:LONGEST_PEEK]), "hexadecimal", found, tricks)
    low = text.lower()
    if any(word in low for word in _ROT13_WORDS):
        found.append(codecs.decode(text[:LONGEST_PEEK], "rot13"))
        tricks.append("rot13")
    words = [word.group().lower().translate(_LEET) for word in _LEET_WORD.finditer(text[: 5 * LONGEST_PEEK])]
    if len(words) > 1:
        found.append(" ".join(words))
    return found


def _keep(raw: bytes, trick: str, found: list[str], tricks: list[str]) -> None:
    try:
        plain = raw.decode("ascii")
    except UnicodeDecodeError:
        return
    letters = sum(sign.isalpha() or sign == " " for sign in plain)
    if letters > 0.8 * len(plain) and " " in plain:
        found.append(plain)
        if trick not in tricks:
            tricks.append(trick)
