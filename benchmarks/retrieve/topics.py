"""Gap topics against true topics: questions of 24 encyclopaedia articles, grouped without being told the article."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy
from data import Figure, print_table, read_rows

from slipway.embedders.minilm import MiniLM
from slipway.retrieve.topics import group_questions

QUESTIONS = 774
SEEDS = (5, 6, 7)
FEWEST = 2
"""Questions that make a topic; a question that stands alone counts as not covered by a topic."""


def measure(groups: Sequence[Sequence[int]], labels: Sequence[str]) -> tuple[float, float, float]:
    """(purity of the topics, V-measure over all questions, share of questions in a topic).

    V-measure: Rosenberg and Hirschberg (2007); a question that stands alone is a cluster of its own.
    """
    topics = [group for group in groups if len(group) >= FEWEST]
    inside = sum(map(len, topics))
    pure = sum(max(Counter(labels[place] for place in group).values()) for group in topics)
    cluster = {place: number for number, group in enumerate(groups) for place in group}
    by_label, by_cluster = entropy(Counter(labels)), entropy(Counter(cluster.values()))
    both = entropy(Counter((label, cluster[place]) for place, label in enumerate(labels)))
    homogeneity, completeness = 1 - (both - by_cluster) / by_label, 1 - (both - by_label) / by_cluster
    return pure / inside, 2 * homogeneity * completeness / (homogeneity + completeness), inside / len(labels)


def entropy(counts: Mapping[object, int]) -> float:
    shares = numpy.array(list(counts.values())) / sum(counts.values())
    return float(-(shares * numpy.log(shares)).sum())


def main() -> int:
    """Three draws of questions; the mean of each figure."""
    rows = [row for row in read_rows("retrieval/squad/questions.jsonl.gz") if row["answerable"]]
    figures = []
    for how, embedder in (("words and vectors", MiniLM()), ("words", None)):
        shares = []
        for seed in SEEDS:
            drawn = random.Random(seed).sample(rows, QUESTIONS)
            groups = group_questions([row["query"] for row in drawn], embedder)
            shares.append(measure(groups, [row["article"] for row in drawn]))
        purity, v_measure, covered = numpy.mean(shares, axis=0)
        for what, value, least in (
            ("purity", purity, 0.90),
            ("V-measure", v_measure, 0.65),
            ("in a topic", covered, 0.8),
        ):
            figures.append(Figure(f"{how}: {what}", float(value), "", note=f"to reach: {least}"))
    return print_table(f"Topics of {QUESTIONS} questions about 24 articles, mean of {len(SEEDS)} draws", figures)


if __name__ == "__main__":
    sys.exit(main())
