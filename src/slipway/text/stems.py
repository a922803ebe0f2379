"""The stem of an English word by Porter's algorithm (1980), the same that the full-text index uses."""

import re
import unicodedata
from functools import lru_cache

CONSONANT = "[^aeiou]"
VOWEL = "[aeiouy]"
CONSONANTS = CONSONANT + "[^aeiouy]*"
VOWELS = VOWEL + "[aeiou]*"
MEASURE_ABOVE_0 = re.compile(f"^(?:{CONSONANTS})?{VOWELS}{CONSONANTS}")
MEASURE_IS_1 = re.compile(f"^(?:{CONSONANTS})?{VOWELS}{CONSONANTS}(?:{VOWELS})?$")
MEASURE_ABOVE_1 = re.compile(f"^(?:{CONSONANTS})?{VOWELS}{CONSONANTS}{VOWELS}{CONSONANTS}")
HAS_VOWEL = re.compile(f"^(?:{CONSONANTS})?{VOWEL}")
SHORT_END = re.compile(f"^{CONSONANTS}{VOWEL}[b-df-hj-np-tvz]$")

STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "abli": "able", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble",
    "bli": "ble", "logi": "log",
}  # fmt: skip
STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
ENDINGS_4 = "al ance ence er ic able ible ant ement ment ent ou ism ate iti ous ive ize"
STEP_4 = ENDINGS_4.split()  # 'ion' too, behind an s or t


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The stem of one lower-case word without the accents of its Latin letters; what is no word of letters stays."""
    if not word.isascii():
        word = without_accents(word)
    if len(word) < 3 or not word.isalpha():
        return word
    if word[0] == "y":
        word = "Y" + word[1:]
    word = _plural(word)
    word = _past_and_progressive(word)
    if word[-1] == "y" and HAS_VOWEL.match(word[:-1]):
        word = word[:-1] + "i"
    word = _replace(word, STEP_2)
    word = _replace(word, STEP_3)
    word = _drop_ending(word)
    if word[-1] == "e":
        base = word[:-1]
        if MEASURE_ABOVE_1.match(base) or (MEASURE_IS_1.match(base) and not SHORT_END.match(base)):
            word = base
    if word.endswith("ll") and MEASURE_ABOVE_1.match(word):
        word = word[:-1]
    return word.lower()


def without_accents(word: str) -> str:
    """Letters a to z with a mark above or below become plain, as in the full-text index: `für` is `fur`."""
    return "".join(_plain_letter(letter) for letter in word)


def _plain_letter(letter: str) -> str:
    apart = unicodedata.normalize("NFD", letter)
    return apart[0] if apart[0].isascii() and all(map(unicodedata.combining, apart[1:])) else letter


def _plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        return word[:-1]
    return word


def _past_and_progressive(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if MEASURE_ABOVE_0.match(word[:-3]) else word
    for ending in ("ed", "ing"):
        if word.endswith(ending):
            base = word[: -len(ending)]
            if not HAS_VOWEL.match(base):
                return word
            if base.endswith(("at", "bl", "iz")):
                return base + "e"
            if len(base) > 1 and base[-1] == base[-2] and base[-1] not in "aeiouylsz":
                return base[:-1]
            return base + "e" if SHORT_END.match(base) else base
    return word


def _replace(word: str, endings: dict[str, str]) -> str:
    ending = max((ending for ending in endings if word.endswith(ending)), key=len, default="")
    if ending and MEASURE_ABOVE_0.match(word[: -len(ending)]):
        return word[: -len(ending)] + endings[ending]
    return word


def _drop_ending(word: str) -> str:
    ending = max((ending for ending in STEP_4 if word.endswith(ending)), key=len, default="")
    if word.endswith("ion") and len(ending) < 3:
        base = word[:-3]
        return base if base.endswith(("s", "t")) and MEASURE_ABOVE_1.match(base) else word
    if ending and MEASURE_ABOVE_1.match(word[: -len(ending)]):
        return word[: -len(ending)]
    return word
