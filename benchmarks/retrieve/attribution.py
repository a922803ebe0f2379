"""Whether sentences of an answer are traced to their passage: reference answers of ClapNQ, with and without it.

Each answer is taken apart against its own passage among four others, and against the four others alone.
"""

from __future__ import annotations

import random
import sys

from data import Figure, print_table, read_rows

from slipway.embedders.minilm import MiniLM
from slipway.retrieve.attribution import Source, attribute

OTHERS = 4


def main() -> int:
    """Shares of sentences, by words alone and with sentences compared by embedding."""
    rows = [row for row in read_rows("retrieval/clapnq/questions.jsonl.gz") if row["answerable"] and row["answers"]]
    figures = []
    for how, embedder in (("words", None), ("words, then similarity", MiniLM())):
        draw = random.Random(0)
        supported = right = false = total = 0
        for row in rows:
            others = [other for other in draw.sample(rows, OTHERS + 4) if other["title"] != row["title"]][:OTHERS]
            own, *rest = [Source(each["title"], 0, len(each["passage"]), each["passage"]) for each in (row, *others)]
            with_own = [
                one for one in attribute(row["answers"][0], [*rest, own], embedder=embedder).sentences if one.words
            ]
            total += len(with_own)
            supported += sum(one.passage is not None for one in with_own)
            right += sum(one.passage == len(rest) for one in with_own)
            without = attribute(row["answers"][0], rest, embedder=embedder).sentences
            false += sum(one.passage is not None for one in without)
        figures += [
            Figure(f"{how}: sentences traced to their own passage", 100 * right / total, "%", note=f"of {total}"),
            Figure(f"{how}: sentences traced to another passage", 100 * (supported - right) / total, "%"),
            Figure(f"{how}: called supported though their passage is not there", 100 * false / total, "%", limit=2),
        ]
    return print_table("Sentences of reference answers traced to passages", figures)


if __name__ == "__main__":
    sys.exit(main())
