"""Finds secrets in a text: API keys by their makers' prefixes, private keys, tokens, passwords given away.

Every pattern begins with a literal that is looked for first, and reaches over a bounded stretch, so the time is
linear. No hit crosses two plain words.
"""

import re
from collections.abc import Iterator
from math import log2

from slipway.domain.guardrail import Hit
from slipway.text.personal_data import without_overlaps

KINDS = ("api_key", "private_key", "token", "password")
"""What can be found."""

LOOK_BACK = 60

_PREFIXES = (
    ("sk-", r"sk-(?:ant-|proj-|svcacct-|or-v1-)?[A-Za-z0-9_\-]{20,200}"),
    ("sk_", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,120}"),
    ("rk_", r"rk_(?:live|test)_[A-Za-z0-9]{16,120}"),
    ("gh", r"gh[pousr]_[A-Za-z0-9]{30,255}"),
    ("github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}"),
    ("glpat-", r"glpat-[A-Za-z0-9_\-]{20,60}"),
    ("xox", r"xox[abeoprs]-[A-Za-z0-9\-]{10,255}"),
    ("xapp-", r"xapp-[A-Za-z0-9\-]{20,255}"),
    ("AKIA", r"AKIA[A-Z0-9]{16}"),
    ("ASIA", r"ASIA[A-Z0-9]{16}"),
    ("AIza", r"AIza[A-Za-z0-9_\-]{35}"),
    ("ya29.", r"ya29\.[A-Za-z0-9_\-]{20,255}"),
    ("SG.", r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{16,64}"),
    ("npm_", r"npm_[A-Za-z0-9]{36}"),
    ("pypi-", r"pypi-[A-Za-z0-9_\-]{32,255}"),
    ("hf_", r"hf_[A-Za-z0-9]{30,60}"),
    ("gsk_", r"gsk_[A-Za-z0-9]{40,80}"),
    ("r8_", r"r8_[A-Za-z0-9]{30,60}"),
    ("whsec_", r"whsec_[A-Za-z0-9+/=]{24,80}"),
    ("shp", r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}"),
    ("dop_v1_", r"dop_v1_[a-f0-9]{64}"),
    ("dckr_pat_", r"dckr_pat_[A-Za-z0-9_\-]{20,60}"),
    ("sq0", r"sq0(?:atp|csp)-[A-Za-z0-9_\-]{22,50}"),
    ("AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    ("hvs.", r"hvs\.[A-Za-z0-9_\-]{24,120}"),
    ("lin_api_", r"lin_api_[A-Za-z0-9]{40}"),
    ("figd_", r"figd_[A-Za-z0-9_\-]{30,60}"),
    ("PMAK-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    ("eyJ", r"eyJ[A-Za-z0-9_\-]{8,2000}\.eyJ[A-Za-z0-9_\-]{8,4000}(?:\.[A-Za-z0-9_\-]{0,1000})?"),
)
"""What a maker's keys begin with, and their whole form."""
_LITERALS = tuple(literal for literal, _ in _PREFIXES)
_KEY = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(f'(?:{form})' for _, form in _PREFIXES)})")

_GAP = r"(?:\s|\\[nr])*+"
_END = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rf"(?:{_GAP}(?:Proc-Type:[^\n]{{0,40}}|DEK-Info:[^\n]{{0,80}}|Version:[^\n]{{0,40}}|[A-Za-z0-9+/=]{{20,}}+))*+"
    rf"(?:{_GAP}(?:[A-Za-z0-9+/=]{{1,76}}+{_GAP}){{0,2}}{_END})?"
)

_NAMED = re.compile(
    r"(?i:(?<![A-Za-z])(?P<name>pass(?:word|wd|phrase|wort)|pwd|contrase[nñ]a|mot de passe"
    r"|(?:[A-Za-z0-9]{1,20}[_-]){0,3}(?:secret|token|api[_-]?key|apikey|access[_-]?key|auth[_-]?key|private[_-]?key|password|credentials?)"
    r"(?:[_-](?:key|id|token|value))?))"
    r"[\"']?[ ]{0,2}(?:[:=]{1,2}>?|(?i:\bis\b:?))[ ]{0,2}"
    r"(?P<value>\"[^\"\s\u0e00-\u9fff]{4,200}\"|'[^'\s\u0e00-\u9fff]{4,200}'"
    r"|[^\s\"'`,;<>(){}\[\]\u0e00-\u9fff]{4,200})"
)
_BEARER = re.compile(r"(?i:\b(?:bearer|basic|token))[ ]{1,2}(?P<value>[A-Za-z0-9_\-.~+/=]{16,2000})")
_IN_URL = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.\-]{1,20}://[^\s:/@\u0e00-\u9fff]{0,64}:(?P<value>[^\s:/@\u0e00-\u9fff]{3,128})@"
)
_WORDS = ("pass", "pwd", "secret", "token", "key", "credential", "contrase", "mot de passe")
_PLACEHOLDER = re.compile(
    r"(?i)^(?:x{3,}|\*{2,}|\.{3,}|-+|_+)|your|example|placeholder|changeme|change_me|redacted|dummy|sample|\benv\b|^env:|"
    r"^file:|^\$|^%|getenv|environ|^none$|^null$|^true$|^false$|^(?:str|string|int|bool|text|required|optional)\b|"
    r"incorrect|invalid|wrong|forgot|reset|expired|missing|^\[[A-Z_]+\]"
)
_UNKNOWN = re.compile(r"(?<![A-Za-z0-9_+/=\-])[A-Za-z0-9_+/\-]{32,200}={0,2}(?![A-Za-z0-9_+/=\-])")


def find_secrets(text: str, *, start: int = 0, unknown_tokens: bool = False) -> list[Hit]:
    """Hits that begin at `start` or later, in order, none overlapping.

    `unknown_tokens` adds long tokens of high entropy without a known form: it finds more and errs more.
    """
    hits = list(_known_keys(text, start))
    if "-----BEGIN" in text:
        hits += list(_private_keys(text, start))
    if "://" in text and "@" in text:
        hits += [_hit("password", match, "value") for match in _IN_URL.finditer(text, start)]
    # What is looked for first must stand in every match: a text and its pieces then give the same hits.
    low = text.lower()
    if ("=" in text or ":" in text or "is" in low) and any(word in low for word in _WORDS):
        hits += list(_named(text, start))
    if "bearer" in low or "basic" in low or "token" in low:
        hits += list(_bearer(text, start))
    if unknown_tokens:
        hits += list(_unknown(text, start))
    return without_overlaps(hits) if hits else hits


def entropy(text: str) -> float:
    """Bits per character (Shannon) of the characters of a text."""
    counts: dict[str, int] = {}
    for sign in text:
        counts[sign] = counts.get(sign, 0) + 1
    size = len(text)
    return -sum(count / size * log2(count / size) for count in counts.values()) if size else 0.0


def _known_keys(text: str, start: int) -> Iterator[Hit]:
    for literal in _LITERALS:
        if literal in text:
            break
    else:
        return
    for match in _KEY.finditer(text, start):
        value = match.group()
        if value.startswith("eyJ"):
            yield Hit(kind="token", start=match.start(), end=match.end())
        elif entropy(value[4:]) > 2.5 and not _PLACEHOLDER.search(value):
            yield Hit(kind="api_key", start=match.start(), end=match.end())


def _private_keys(text: str, start: int) -> Iterator[Hit]:
    for match in _PRIVATE_KEY.finditer(text, start):
        yield Hit(kind="private_key", start=match.start(), end=match.start() + len(match.group().rstrip()))


def _named(text: str, start: int) -> Iterator[Hit]:
    """`password: …`, `api_key = "…"`: the value counts when it looks like one."""
    for match in _NAMED.finditer(text, max(0, start - LOOK_BACK)):
        begin, end = match.span("value")
        if text[begin] in "\"'":
            begin, end = begin + 1, end - 1
        value = text[begin:end].rstrip(".!?:")
        end = begin + len(value)
        if begin < start or _PLACEHOLDER.search(value) or "://" in value:
            continue
        password = (
            match["name"].lower().startswith(("pass", "pwd", "contrase", "mot")) or "password" in match["name"].lower()
        )
        if password and _is_password(value):
            yield Hit(kind="password", start=begin, end=end)
        elif not password and _is_random(value):
            yield Hit(kind="api_key", start=begin, end=end)


def _bearer(text: str, start: int) -> Iterator[Hit]:
    for match in _BEARER.finditer(text, max(0, start - LOOK_BACK)):
        value = match["value"].rstrip(".")
        if match.start("value") >= start and _is_random(value) and not _PLACEHOLDER.search(value):
            yield Hit(kind="token", start=match.start("value"), end=match.start("value") + len(value))


def _unknown(text: str, start: int) -> Iterator[Hit]:
    for match in _UNKNOWN.finditer(text, start):
        value = match.group()
        mixed = any(c.islower() for c in value) and any(c.isupper() for c in value) and any(c.isdigit() for c in value)
        if mixed and entropy(value) > 4.2:
            yield Hit(kind="token", start=match.start(), end=match.end())


def _is_password(value: str) -> bool:
    """Not a plain word: a digit or a sign inside."""
    return len(value) >= 5 and any(not sign.isalpha() for sign in value[:-1]) and len(set(value)) > 3


def _is_random(value: str) -> bool:
    """Long, with digits among letters, and of high entropy."""
    digits = sum(sign.isdigit() for sign in value)
    return len(value) >= 16 and 2 <= digits < len(value) and entropy(value) > 3.0


def _hit(kind: str, match: re.Match[str], group: str) -> Hit:
    return Hit(kind=kind, start=match.start(group), end=match.end(group))
