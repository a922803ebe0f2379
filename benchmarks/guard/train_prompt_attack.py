"""Trains the prompt-attack model and measures it: train_prompt_attack.py [FOLDER] [--out FILE] [--no-check].

FOLDER holds injection.jsonl and requests.jsonl (see PROVENANCE.md beside the weights). Figures come from five-fold
cross-validation in which whole groups are left out (an attack category of BIPIA, a cluster of jailbreaks); the shipped
model is then trained on everything. Rows whose documents are under CC BY-SA (BIPIA's tables and code) are measured
but never trained on: of them only the attack sentences (MIT) are used, set into other documents.
"""

import argparse
import hashlib
import json
import random
import re
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from attack_phrases import NEAR_MISSES, by_users, in_documents, noise
from numpy.typing import NDArray

from slipway.guard.attack_features import SENTENCE_SIGNS, read_sentences, split_sentences, turn_signs
from slipway.guard.attack_model import SIGN_SCALE, WEIGHTS, AttackModel, Head, read_attack_model
from slipway.guard.ngrams import BUCKETS, grams
from slipway.guard.normalise import normalise

FOLDS = 5
FREE_DOCUMENTS = ("mtragun_rag", "bipia_email")
"""Sources whose documents may be trained on."""
REQUESTS = ("self_instruct_seed", "xstest_safe", "notinject", "own_hard", "deepset", "mtrag_cloud", "mtrag_govt")
GROUPED = ("inthewild", "cse_direct", "banking77", "notinject", "xstest_safe", "own_hard")
CODE_INTRODUCTION = re.compile(r"^(.{10,160}\b(?:following|subsequent|below|next)\b.{0,60}\bcode\b.{0,80}:)\s*$", re.M)
SOURCE = Path(__file__).resolve().parents[2] / "src" / "slipway"
BUDGET = 0.01
TURN_C, SENTENCE_C = 30.0, 1.0

Floats = NDArray[np.float64]
Row = dict[str, Any]


class Matrix(NamedTuple):
    """Rows of hashed features: `data` and `columns` of row i stand at [starts[i], starts[i+1]); `signs` is dense."""

    data: Floats
    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    signs: Floats


# Reading ----------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    rows: list[Row] = [json.loads(line) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")]
    for row in rows:
        row["document"] = row["kind"] in ("indirect_injection", "benign_doc")
        grouped = row["source"] in GROUPED or row["kind"] == "indirect_injection"
        row["fold"] = fold_of(row["group"] if grouped else row["id"])
    return rows


def fold_of(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % FOLDS


def attack_sentences(rows: list[Row]) -> dict[str, list[str]]:
    """BIPIA's attack sentences by category: what several documents of one category share and no benign one holds."""
    benign = {
        row["text"][start:end].strip()
        for row in rows
        if row["kind"] == "benign_doc"
        for start, end in split_sentences(row["text"])
    }
    seen: dict[str, set[str]] = defaultdict(set)
    times: Counter[tuple[str, str]] = Counter()
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["kind"] != "indirect_injection":
            continue
        for sentence in {row["text"][start:end].strip() for start, end in split_sentences(row["text"])}:
            seen[sentence].add(row["group"])
            if row["source"] != "bipia_code":
                times[row["group"], sentence] += 1
        if row["source"] == "bipia_code":
            found[row["group"]] += [match[1].strip() for match in CODE_INTRODUCTION.finditer(row["text"])]
    for (group, sentence), count in times.items():
        if count > 1 and sentence not in benign and len(seen[sentence]) == 1 and len(sentence) > 12:
            found[group].append(sentence)
    return {group: sorted(set(sentences)) for group, sentences in sorted(found.items())}


# Made examples ----------------------------------------------------------------------------------------------------


class Documents:
    """Documents to set attacks into: excerpts that may be trained on, tables of chance, code of this project."""

    def __init__(self, rows: list[Row], rng: random.Random) -> None:
        self.rng = rng
        self.whole = [row["text"] for row in rows if row["kind"] == "benign_doc" and row["source"] in FREE_DOCUMENTS]
        self.words = sorted({word for text in self.whole for word in re.findall(r"[A-Za-z]{3,12}", text)})
        self.code_files = [path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))]

    def any(self) -> str:
        dice = self.rng.random()
        return self.table() if dice < 0.25 else self.code() if dice < 0.4 else self.excerpt()

    def excerpt(self, shortest: int = 300, longest: int = 2500) -> str:
        text = re.sub(r"^Context:\n", "", self.rng.choice(self.whole).split("\n\nQuestion:")[0])
        length = self.rng.randint(shortest, longest)
        if len(text) <= length:
            return text
        start = text.find(" ", self.rng.randint(0, len(text) - length)) + 1
        return text[start : start + length]

    def cell(self) -> str:
        match self.rng.randrange(4):
            case 0:
                return " ".join(self.rng.sample(self.words, self.rng.randint(1, 3))).title()
            case 1:
                return str(self.rng.randint(0, 3000))
            case 2:
                return f"{self.rng.random() * 100:.1f}"
            case _:
                return f"{self.rng.randint(0, 6)}–{self.rng.randint(0, 6)}"

    def table(self) -> str:
        columns = self.rng.randint(3, 6)
        rows = range(self.rng.randint(4, 14))
        return "\n".join(
            "| " + " | ".join(self.cell().ljust(self.rng.randint(4, 18)) for _ in range(columns)) + " |" for _ in rows
        )

    def code_lines(self, shortest: int, longest: int) -> str:
        lines = self.rng.choice(self.code_files).split("\n")
        length = self.rng.randint(shortest, longest)
        start = self.rng.randint(0, max(1, len(lines) - length))
        return "\n".join(lines[start : start + length])

    def code(self) -> str:
        talk, body = self.excerpt(60, 400), f"```\n{self.code_lines(6, 30)}\n```"
        return self.rng.choice([f"{talk}\n{body}", f"{body}\n{talk}", f"{talk}\n{body}\n{self.excerpt(40, 200)}"])

    def with_sentence(self, sentence: str) -> tuple[str, int]:
        """A document with a sentence set at its start, its end, or between two of its sentences; and where."""
        document, gap, dice = self.any(), self.rng.choice([" ", "\n", "\n\n"]), self.rng.random()
        spans = split_sentences(document)
        if dice < 0.35 or not spans:
            return sentence + gap + document, 0
        if dice < 0.7:
            document = document.rstrip() + gap
            return document + sentence, len(document)
        place = self.rng.choice(spans)[0]
        return document[:place] + sentence + gap + document[place:], place

    def question_about_code(self) -> str:
        asked = ("Why does this fail?", "What does this do?", "Explain this code.", "Add types to this:", "Review:")
        return f"{self.rng.choice(asked)}\n{self.code_lines(3, 20)}"


# Features ---------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    normal = normalise(text)
    return f"{normal.text}\n{normal.hidden}" if normal.hidden else normal.text


def stack(parts: list[tuple[NDArray[np.int64], Floats]], signs: Floats) -> Matrix:
    sizes = np.cumsum([0, *(len(columns) for columns, _ in parts)])
    data = np.concatenate([values for _, values in parts]) if parts else np.zeros(0)
    columns = np.concatenate([columns for columns, _ in parts]) if parts else np.zeros(0, dtype=np.int64)
    return Matrix(data, columns, sizes, signs)


def turn_parts(texts: list[str]) -> list[tuple[NDArray[np.int64], Floats]]:
    parts = []
    for text in texts:
        buckets, counts = np.unique(grams(text).buckets, return_counts=True)
        parts.append((buckets, np.sqrt(counts)))
    return parts


def weigh(parts: list[tuple[NDArray[np.int64], Floats]], idf: Floats) -> list[tuple[NDArray[np.int64], Floats]]:
    """Values times inverse document frequency, scaled to length 1; buckets without weight are dropped."""
    weighted = []
    for columns, values in parts:
        values = values * idf[columns]
        length = float(np.sqrt((values**2).sum())) or 1.0
        keep = values > 0
        weighted.append((columns[keep], values[keep] / length))
    return weighted


def idf_of(parts: list[tuple[NDArray[np.int64], Floats]], *, fewest: int) -> Floats:
    counts = np.zeros(BUCKETS)
    for columns, _ in parts:
        counts[columns] += 1
    idf = np.log((1 + len(parts)) / (1 + counts)) + 1
    idf[counts < fewest] = 0
    return np.asarray(idf)


def sentence_parts(
    text: str, start: int = 0, end: int | None = None
) -> tuple[list[tuple[NDArray[np.int64], Floats, Floats]], Floats]:
    """Columns, values and squares of the sentences that overlap [start, end), with their signs.

    A bucket's value counts its places; the length is taken over places, as the model does at run time.
    """
    read = read_sentences(text)
    stop = len(text) if end is None else end
    parts: list[tuple[NDArray[np.int64], Floats, Floats]] = []
    signs = []
    for number, (begin, finish) in enumerate(read.spans):
        if not read.long_enough[number] or begin >= stop or finish <= start:
            continue
        buckets, counts = np.unique(read.grams.buckets[read.owner == number], return_counts=True)
        parts.append((buckets, counts.astype(float), counts.astype(float)))
        signs.append(read.signs[number])
    return parts, np.array(signs).reshape(len(signs), SENTENCE_SIGNS)


# Logistic regression ----------------------------------------------------------------------------------------------


def times(matrix: Matrix, weights: Floats) -> Floats:
    products = np.concatenate([matrix.data * weights[matrix.columns], [0.0]])
    sums = np.add.reduceat(products, matrix.starts[:-1])
    sums[matrix.starts[:-1] == matrix.starts[1:]] = 0
    return np.asarray(sums)


def fit(matrix: Matrix, labels: Floats, importance: Floats, strength: float) -> tuple[Floats, Floats, float]:
    """Weights of buckets and signs and the bias of an L2-regularised logistic regression, by L-BFGS (Nocedal 1980).

    `strength` is C: the loss is C times the weighted log loss plus half the squared weights.
    """
    signs = matrix.signs.shape[1]
    owner = np.repeat(np.arange(len(labels)), np.diff(matrix.starts))
    target = labels * 2 - 1

    def loss(point: Floats) -> tuple[float, Floats]:
        buckets, dense, bias = point[:BUCKETS], point[BUCKETS : BUCKETS + signs], point[-1]
        margin = target * (times(matrix, buckets) + matrix.signs @ dense + bias)
        value = strength * float((importance * np.logaddexp(0, -margin)).sum()) + 0.5 * float(point[:-1] @ point[:-1])
        slope = -strength * importance * target / (1 + np.exp(np.clip(margin, -500, 500)))
        gradient = np.empty_like(point)
        gradient[:BUCKETS] = np.bincount(matrix.columns, weights=matrix.data * slope[owner], minlength=BUCKETS)
        gradient[BUCKETS:-1] = matrix.signs.T @ slope
        gradient[:-1] += point[:-1]
        gradient[-1] = slope.sum()
        return value, gradient

    point = minimise(loss, np.zeros(BUCKETS + signs + 1))
    return point[:BUCKETS], point[BUCKETS:-1], float(point[-1])


def minimise(loss: Any, point: Floats, *, steps: int = 200, memory: int = 10) -> Floats:
    value, gradient = loss(point)
    moves: list[tuple[Floats, Floats, float]] = []
    for _ in range(steps):
        direction = -gradient
        stored = []
        for move, change, scale in reversed(moves):
            part = scale * float(move @ direction)
            direction -= part * change
            stored.append(part)
        if moves:
            move, change, _ = moves[-1]
            direction *= float(move @ change) / float(change @ change)
        for (move, change, scale), part in zip(moves, reversed(stored), strict=True):
            direction += (part - scale * float(change @ direction)) * move
        slope, length = float(gradient @ direction), 1.0 if moves else 1.0 / float(np.linalg.norm(gradient))
        while True:
            following = point + length * direction
            new_value, new_gradient = loss(following)
            if new_value <= value + 1e-4 * length * slope or length < 1e-10:
                break
            length *= 0.5
        move, change = following - point, new_gradient - gradient
        done = abs(value - new_value) <= 1e-6 * max(1.0, abs(value))
        point, value, gradient = following, new_value, new_gradient
        if done:
            break
        if (curve := float(move @ change)) > 1e-10:
            moves = [*moves, (move, change, 1.0 / curve)][-memory:]
    return point


def balanced(labels: Floats, importance: Floats) -> Floats:
    """Importance such that attacks and the rest weigh the same."""
    out = importance.copy()
    for label in (0.0, 1.0):
        out[labels == label] *= len(labels) / (2 * importance[labels == label].sum())
    return out * importance.sum() / out.sum() if out.sum() else out


# Training ---------------------------------------------------------------------------------------------------------


def train_turns(rows: list[Row], harmful: list[str], rng: random.Random) -> tuple[Head, NDArray[np.bool_]]:
    """The model for users' turns; the second result marks the buckets of ordinary text."""
    documents = Documents(rows, rng)
    turns = [row for row in rows if not row["document"]]
    asked = [row["text"] for row in turns if row["kind"] == "benign_chat" and len(row["text"]) < 300]
    texts = [row["text"] for row in turns]
    labels = [float(row["label"]) for row in turns]
    made = [f"{rng.choice(harmful if rng.random() < 0.6 else asked)} {noise(documents.words, rng)}" for _ in range(250)]
    made += by_users(rng)
    texts += made
    labels += [1.0] * len(made)
    harmless = [documents.question_about_code() for _ in range(150)] + NEAR_MISSES * 2
    texts += harmless
    labels += [0.0] * len(harmless)
    texts = [plain(text) for text in texts]
    seen = np.zeros(BUCKETS, dtype=bool)
    for row in rows:
        if row["label"] == 0 and (not row["document"] or row["source"] in FREE_DOCUMENTS):
            seen[grams(plain(row["text"])).buckets] = True
    parts = turn_parts(texts)
    idf = idf_of(parts, fewest=3)
    signs = np.array([turn_signs(text, grams(text), seen) for text in texts]) * SIGN_SCALE
    answers = np.array(labels)
    matrix = stack(weigh(parts, idf), signs)
    weights, dense, bias = fit(matrix, answers, balanced(answers, np.ones(len(answers))), TURN_C)
    return Head(weights=weights * idf, idf=idf, signs=dense, bias=bias), seen


def train_sentences(rows: list[Row], attacks: list[str], rng: random.Random) -> Head:
    """The model for sentences of documents."""
    documents = Documents(rows, rng)
    parts: list[tuple[NDArray[np.int64], Floats]] = []
    signs: list[Floats] = []
    labels: list[float] = []
    importance: list[float] = []

    def add(text: str, label: float, weight: float, start: int = 0, end: int | None = None) -> None:
        found, dense = sentence_parts(plain(text), start, end)
        for (columns, values, _), row in zip(found, dense, strict=True):
            parts.append((columns, values))
            signs.append(row)
            labels.append(label)
            importance.append(weight)

    for text in documents.whole:
        add(text, 0.0, 1.0)
    for make, count, weight in (
        (documents.table, 150, 0.3),
        (documents.code, 200, 0.5),
        (documents.excerpt, 200, 0.3),
        (lambda: documents.excerpt(30, 220), 400, 1.0),
    ):
        for _ in range(count):
            add(make(), 0.0, weight)
    requests = [
        row["text"]
        for row in rows
        if (row["source"] in REQUESTS or row["source"] in ("cse_direct", "cse_frr"))
        and row["kind"] in ("benign_chat", "benign_hard", "direct_injection")
        and len(row["text"]) < 400
    ]
    for sentence in attacks * 6 + in_documents(rng) * 2 + requests:
        text, place = documents.with_sentence(sentence)
        add(text, 1.0, 1.0, place, place + len(sentence))
    idf = idf_of(parts, fewest=2)
    weighted = []
    for columns, values in parts:
        # The length counts places, not buckets, so that one pass over a document serves all of its sentences.
        length = float(np.sqrt((values * idf[columns] ** 2).sum())) or 1.0
        keep = idf[columns] > 0
        weighted.append((columns[keep], (values * idf[columns] / length)[keep]))
    answers = np.array(labels)
    matrix = stack(weighted, np.array(signs) * SIGN_SCALE)
    weights, dense, bias = fit(matrix, answers, balanced(answers, np.array(importance)), SENTENCE_C)
    return Head(weights=weights * idf, idf=idf, signs=dense, bias=bias)


def train(rows: list[Row], attacks: dict[str, list[str]], harmful: list[str], seed: int = 0) -> AttackModel:
    turn, seen = train_turns(rows, harmful, random.Random(seed))
    sentences = [sentence for group in attacks.values() for sentence in group]
    sentence = train_sentences(rows, sentences, random.Random(seed + 1))
    return AttackModel(
        turn=turn, sentence=sentence, seen=seen, thresholds={"user": 0.5, "document": 0.5}, fingerprint=""
    )


# Measuring --------------------------------------------------------------------------------------------------------


def score(model: AttackModel, row: Row) -> float:
    text = plain(row["text"])
    return model.score_document(text).score if row["document"] else model.score_turn(text)


def auroc(labels: NDArray[np.int64], scores: Floats) -> float:
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    for value in np.unique(scores):
        tied = scores == value
        if tied.sum() > 1:
            ranks[tied] = ranks[tied].mean()
    positive = labels == 1
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))


def length_matched_auroc(labels: NDArray[np.int64], scores: Floats, lengths: NDArray[np.int64]) -> float:
    """AUROC within bins of similar length (a factor of 1.4), weighted by the smaller class of each bin."""
    bins = np.floor(np.log(lengths + 1) / 0.35)
    total = weight = 0.0
    for one in np.unique(bins):
        inside = bins == one
        smaller = min(int((labels[inside] == 1).sum()), int((labels[inside] == 0).sum()))
        if smaller >= 3:
            total += auroc(labels[inside], scores[inside]) * smaller
            weight += smaller
    return total / weight


def threshold_for(scores: Floats, budget: float) -> float:
    """The lowest limit that at most this share of harmless scores exceeds."""
    ordered = np.sort(scores)[::-1]
    return float(ordered[int(budget * len(ordered))]) + 1e-9


def measure(rows: list[Row], scores: Floats, thresholds: dict[str, float]) -> None:
    labels = np.array([row["label"] for row in rows])
    documents = np.array([row["document"] for row in rows])
    lengths = np.array([len(row["text"]) for row in rows])
    limits = np.where(documents, thresholds["document"], thresholds["user"])
    logit = np.log(scores / (1 - scores)) - np.log(limits / (1 - limits))
    print(f"{'':<22} {'attacks':>8} {'harmless':>9} {'AUROC':>7} {'length-matched':>15} {'recall at 1 % FPR':>18}")
    for name, part in (("all", np.ones(len(rows), bool)), ("user turns", ~documents), ("documents", documents)):
        limit = threshold_for(logit[part & (labels == 0)], BUDGET)
        recall = float((logit[part & (labels == 1)] > limit).mean())
        print(
            f"{name:<22} {int((part & (labels == 1)).sum()):>8} {int((part & (labels == 0)).sum()):>9} "
            f"{auroc(labels[part], logit[part]):>7.3f} "
            f"{length_matched_auroc(labels[part], logit[part], lengths[part]):>15.3f} {recall:>18.3f}"
        )
    print("\nshare that fires at the shipped thresholds, by source")
    for source, kind in sorted({(row["source"], row["kind"]) for row in rows}):
        part = np.array([row["source"] == source and row["kind"] == kind for row in rows])
        print(f"  {source:<20} {kind:<20} {int(part.sum()):>5} {float((logit[part] > 0).mean()):>7.3f}")
    hard = np.array([row["kind"] == "benign_hard" for row in rows])
    print(f"\nnear misses let through (benign_hard, n={int(hard.sum())}): {float((logit[hard] <= 0).mean()):.3f}")


def save(model: AttackModel, path: Path) -> None:
    """The weights in whole bytes: a quarter of the size, and no score changes by more than a rounding."""
    arrays: dict[str, Any] = {
        "seen": np.packbits(model.seen),
        "thresholds": np.array([model.thresholds["user"], model.thresholds["document"]]),
    }
    for name, head in (("turn", model.turn), ("sentence", model.sentence)):
        weight_scale = float(np.abs(head.weights).max()) / 127
        idf_scale = float(head.idf.max()) / 255
        arrays[f"{name}_weights"] = np.round(head.weights / weight_scale).astype(np.int8)
        arrays[f"{name}_idf"] = np.round(head.idf / idf_scale).astype(np.uint8)
        arrays[f"{name}_signs"] = head.signs.astype(np.float32)
        arrays[f"{name}_scales"] = np.array([weight_scale, idf_scale, head.bias])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/data/safety"))
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--no-check", action="store_true", help="train without cross-validation, keep the old limits")
    given = parser.parse_args()
    rows = read_rows(given.folder / "injection.jsonl")
    requests = [
        json.loads(line)
        for line in (given.folder / "requests.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
    ]
    harmful = [row["text"] for row in requests if row["label"] == "unsafe"]
    attacks = attack_sentences(rows)
    if given.no_check:
        thresholds = read_attack_model(given.out).thresholds
    else:
        scores = np.zeros(len(rows))
        for fold in range(FOLDS):
            began = time.monotonic()
            kept = {group: found for group, found in attacks.items() if fold_of(group) != fold}
            model = train([row for row in rows if row["fold"] != fold], kept, harmful)
            for number, row in enumerate(rows):
                if row["fold"] == fold:
                    scores[number] = score(model, row)
            print(f"fold {fold + 1} of {FOLDS}: {time.monotonic() - began:.0f} s", flush=True)
        scores = np.clip(scores, 1e-12, 1 - 1e-12)
        harmless = np.array([row["label"] == 0 for row in rows])
        documents = np.array([row["document"] for row in rows])
        thresholds = {
            "user": threshold_for(scores[harmless & ~documents], BUDGET),
            "document": threshold_for(scores[harmless & documents], BUDGET),
        }
        print(f"thresholds at {BUDGET:.0%} false alarms: {thresholds}\n")
        measure(rows, scores, thresholds)
    model = train(rows, attacks, harmful)
    save(
        AttackModel(turn=model.turn, sentence=model.sentence, seen=model.seen, thresholds=thresholds, fingerprint=""),
        given.out,
    )
    shipped = read_attack_model(given.out)
    print(f"\n{given.out.name}: {given.out.stat().st_size:,} bytes, fingerprint {shipped.fingerprint}")
    for name in ("user", "document"):
        sample = [row for row in rows if row["document"] == (name == "document")]
        times_ms = []
        for row in sample[:: max(1, len(sample) // 400)]:
            text = (row["text"] * (600 // max(1, len(row["text"])) + 1))[:600]
            began = time.process_time()
            normal = plain(text)
            _ = shipped.score_turn(normal) if name == "user" else shipped.score_document(normal)
            times_ms.append((time.process_time() - began) * 1000)
        low, high = np.percentile(times_ms, [50, 95])
        print(f"{name}: CPU {low:.2f} ms (median), {high:.2f} ms (95th percentile) for 600 characters")


if __name__ == "__main__":
    main()
