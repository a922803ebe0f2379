"""How many personal data of fixed form are found, and how many hits are wrong: score_personal_data.py [FOLDER].

FOLDER holds pii_own.jsonl and pii_presidio_synth.jsonl: rows with `text` and `spans` [start, end, type]. A hit counts
when it covers a span of its type with an intersection over union of at least 0.5. Prints precision, recall and F1 with
Wilson intervals, per type, and CPU time per kilobyte.
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path

from slipway.text.personal_data import find_personal_data
from slipway.text.secrets import find_secrets

TYPES = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "IP_ADDRESS": "ip",
    "NATIONAL_ID": "national_id",
    "US_SSN": "national_id",
    "IBAN_CODE": "iban",
    "CRYPTO": "wallet",
    "MAC_ADDRESS": "mac",
    "URL_USER": "profile_url",
    "CREDIT_CARD": "card",
    "SECRET": "secret",
}


def overlap(a: tuple[int, int], b: tuple[int, int]) -> float:
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared / (max(a[1], b[1]) - min(a[0], b[0])) if shared > 0 else 0.0


def score(path: Path, *, show: bool) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    right: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    began = time.process_time()
    found = [
        [(hit.kind, hit.start, hit.end) for hit in find_personal_data(row["text"])]
        + [("secret", hit.start, hit.end) for hit in find_secrets(row["text"])]
        for row in rows
    ]
    seconds = time.process_time() - began
    for row, hits in zip(rows, found, strict=True):
        spans = [(TYPES[kind], start, end) for start, end, kind in row["spans"] if kind in TYPES]
        left = list(hits)
        for kind, start, end in spans:
            match = next((h for h in left if h[0] == kind and overlap((start, end), h[1:]) >= 0.5), None)
            if match is None:
                missed[kind] += 1
                if show:
                    print(
                        "missed", kind, repr(row["text"][max(0, start - 40) : end + 10]), repr(row["text"][start:end])
                    )
            else:
                right[kind] += 1
                left.remove(match)
        for kind, start, end in left:
            wrong[kind] += 1
            if show:
                print("wrong", kind, repr(row["text"][max(0, start - 40) : end + 10]), repr(row["text"][start:end]))
    print(f"\n{path.name}: {len(rows)} rows")
    print(f"{'type':<14} {'n':>5} {'precision':>9} {'recall':>7} {'F1':>6}")
    for kind in [*sorted({*right, *missed, *wrong}), "all"]:
        r, m, w = (sum(c.values()) if kind == "all" else c[kind] for c in (right, missed, wrong))
        precision, recall = r / max(1, r + w), r / max(1, r + m)
        f1 = 2 * r / max(1, 2 * r + w + m)
        print(f"{kind:<14} {r + m:>5} {precision:>9.3f} {recall:>7.3f} {f1:>6.3f}")
    size = sum(len(row["text"].encode()) for row in rows)
    print(f"{seconds * 1e6 / (size / 1024):.0f} us CPU per KB")


def main() -> None:
    show = "--show" in sys.argv
    folder = Path(next((a for a in sys.argv[1:] if not a.startswith("-")), "../shared/data/safety"))
    for name in ("pii_own.jsonl", "pii_presidio_synth.jsonl"):
        score(folder / name, show=show)


if __name__ == "__main__":
    main()
