"""`slipway retrieve`: build, list, show, search and compare indexes, and find what the documents do not cover."""

from pathlib import Path
from typing import Annotated, Any

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, progress, show, table

app = typer.Typer(help="Index documents, search them, find gaps.", no_args_is_help=True)

IndexName = Annotated[str, typer.Argument(help="Name of the index, or NAME@VERSION.")]


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="Name of the index; empty takes the one of slipway.toml.")] = "",
    documents: Annotated[
        list[str] | None,
        typer.Option("--documents", help="Folder, file or web address to index instead of those of slipway.toml."),
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Build a new version of an index; nothing happens when documents and settings are the same."""
    from slipway.domain.errors import NothingToIndex
    from slipway.domain.index import Index
    from slipway.retrieve.index import build_index, load_sources

    with open_here(folder) as workspace:
        name = name or workspace.settings.retrieve.index
        before = workspace.store.records.latest(Index, name)
        with progress("Reading", quiet=as_json) as tell:
            loaded = load_sources(workspace, name=name, sources=documents or None, on_progress=tell)
        if not loaded.documents:
            examples = [f"{item.source}: {item.reason}" for item in loaded.unreadable[:3]]
            raise NothingToIndex(name, files=len(loaded.unreadable), examples=examples)
        with progress("Embedding", quiet=as_json) as tell:
            index = build_index(workspace, name, documents=loaded.documents, on_progress=tell)
    facts = {
        "index": f"{index.name}@{index.version}",
        "hash": index.hash,
        "documents": len(index.documents),
        "chunks": index.chunks,
        "chunker": index.chunker,
        "embedder": index.embedder,
        "unanswered_below": index.unanswered_below,
        "calibration": index.calibration,
        "unreadable": loaded.unreadable,
        "duplicates": [{"source": same.source, "document": same.document} for same in loaded.duplicates],
    }
    lines = [_one_line(index), *_left_out(loaded), *_carried(before, index)]
    show(facts, as_json=as_json, text="\n".join(lines))


@app.command("list")
def list_indexes(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the index versions, the newest first."""
    from slipway.domain.index import Index

    with open_here(folder) as workspace:
        found = workspace.store.records.list(Index)
    rows = [
        (f"{index.name}@{index.version}", len(index.documents), index.chunks, index.embedder or "lexical only",
         f"{index.created_at:%Y-%m-%d %H:%M}")
        for index in found
    ]  # fmt: skip
    facts = [
        {"index": row[0], "documents": row[1], "chunks": row[2], "embedder": index.embedder, "created_at": row[4]}
        for row, index in zip(rows, found, strict=True)
    ]
    head = ("index", "documents", "chunks", "embedder", "created")
    empty = "There is no index yet. Build one: slipway retrieve build"
    show(facts, as_json=as_json, text=table(head, rows) or empty)


@app.command("show")
def show_index(
    index: IndexName = "",
    document: Annotated[str, typer.Option("--document", help="Print the text of this document instead.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show one index version: its documents, how they were cut and embedded, and whether it is up to date."""
    from slipway.retrieve.index import load_index, load_sources, outdated
    from slipway.retrieve.query import read_document

    with open_here(folder) as workspace:
        found = load_index(workspace, index or workspace.settings.retrieve.index)
        if document:
            text = read_document(workspace, found, document)
            show(text, as_json=as_json, text=text.text)
            return
        of_settings = found.name == workspace.settings.retrieve.index
        changed = outdated(found, load_sources(workspace, name=found.name).documents) if of_settings else []
    rows = [(entry.id, entry.title, entry.characters, entry.chunks) for entry in found.documents]
    lines = [
        _one_line(found),
        f"cut by {found.chunker}",
        _describe_search(found),
        _describe_coverage(found),
        *([f"outdated: {len(changed)} documents changed since ({', '.join(changed[:5])}). "
           f"Rebuild it: slipway retrieve build {found.name}"] if changed else []),
        "",
        table(("document", "title", "characters", "chunks"), rows),
    ]  # fmt: skip
    show({"index": found, "changed": changed}, as_json=as_json, text="\n".join(lines))


@app.command()
def search(
    index: IndexName,
    question: Annotated[str, typer.Argument(help="The question.")] = "",
    queries: Annotated[
        Path | None, typer.Option("--queries", help="JSONL file of questions: `id` and `question` (or `query`).")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=1000, help="Most passages per question.")] = None,
    cut: Annotated[
        float | None, typer.Option("--cut", min=0, max=1, help="Share of the best score that a passage must reach.")
    ] = None,
    alpha: Annotated[float | None, typer.Option("--alpha", min=0, max=1, help="Weight of the lexical leg.")] = None,
    only: Annotated[list[str] | None, typer.Option("--in", help="Search in this document only; may repeat.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="Condition on metadata, such as folder=hr or 'date >= 2026-01-01'; may repeat."),
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Search one question, or every question of a file; with --json the ranked passages with their offsets."""
    from dataclasses import replace

    from slipway.domain.errors import InputError
    from slipway.retrieve.batch import search_questions
    from slipway.retrieve.index import load_index
    from slipway.retrieve.where import join_where, read_where

    question = question.strip()
    if bool(question) == (queries is not None):
        raise InputError("Give one question, or a file of questions with --queries.")
    kept = join_where(*(read_where(condition) for condition in where or []))
    asked = [("", question)] if queries is None else _read_queries(queries)
    with open_here(folder) as workspace, progress("Searching", quiet=as_json) as tell:
        found = load_index(workspace, index)
        settings = found.search if cut is None else replace(found.search, cut=cut)
        settings = settings if alpha is None else replace(settings, alpha=alpha)
        results = search_questions(
            workspace, found, asked, limit=limit, documents=only, where=kept, settings=settings, on_progress=tell
        )
    if as_json:
        show(results if queries else results[0], as_json=True)
        return
    for result in results:
        print("\n".join(_passage_lines(result, found.unanswered_below)))


@app.command()
def compare(
    cases: Annotated[
        Path | None, typer.Option("--cases", help="JSONL file of labelled questions; without it questions are made.")
    ] = None,
    sizes: Annotated[list[int] | None, typer.Option("--size", min=8, help="Chunk size to try; may repeat.")] = None,
    alphas: Annotated[
        list[float] | None, typer.Option("--alpha", min=0, max=1, help="Weight of the lexical leg to try; may repeat.")
    ] = None,
    cuts: Annotated[
        list[float] | None, typer.Option("--cut", min=0, max=1, help="Relative cut to try; may repeat.")
    ] = None,
    chunkers: Annotated[
        list[str] | None, typer.Option("--chunker", help="Chunker to try beside others; may repeat.")
    ] = None,
    similarities: Annotated[
        list[str] | None, typer.Option("--similarity", help="cosine, dot or euclid; may repeat.")
    ] = None,
    embedders: Annotated[
        list[str] | None, typer.Option("--embedder", help="Embedder to try, such as minilm or none; may repeat.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most questions.")] = 500,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply", help="Where the best is clearly better, write it into slipway.toml and build its index."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --apply: write the best also without a clear difference.")
    ] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Try chunkers, sizes, embedders, similarities, fusion weights and cuts on questions, and name the best."""
    from slipway.evaluate.cases import read_cases
    from slipway.retrieve.applying import apply_best
    from slipway.retrieve.comparison import compare_settings, read_similarity
    from slipway.retrieve.index import load_sources
    from slipway.retrieve.questions import make_questions

    with open_here(folder) as workspace:
        documents = load_sources(workspace).documents
        given = list(read_cases(cases)) if cases else make_questions(documents, limit=limit)
        with progress("Comparing", quiet=as_json) as tell:
            comparison = compare_settings(
                workspace,
                cases=given[:limit],
                documents=documents,
                chunkers=chunkers or None,
                sizes=sizes or None,
                embedders=[_embedder(workspace, kind) for kind in embedders] if embedders else None,
                similarities=[read_similarity(word) for word in similarities or []] or None,
                alphas=alphas or None,
                cuts=cuts or None,
                on_percent=tell,
            )
        if apply and (comparison.clear or force):
            with progress("Embedding", quiet=as_json) as tell:
                comparison = apply_best(workspace, comparison, force=force, on_progress=tell)
    show(comparison, as_json=as_json, text=lambda compared: _comparison_lines(compared, asked_to_apply=apply))


@app.command()
def gaps(
    index: IndexName = "",
    questions: Annotated[
        Path | None,
        typer.Option("--questions", help="File of questions, one a line or JSONL; without it those of the traces."),
    ] = None,
    since: Annotated[str, typer.Option("--since", help="How far back to read traces, such as 7d or 12h.")] = "7d",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Find the questions that the documents do not cover, by topic, with the document to write."""
    from slipway.retrieve.gaps import find_gaps
    from slipway.retrieve.index import load_index

    with open_here(folder) as workspace:
        found = load_index(workspace, index or workspace.settings.retrieve.index)
        asked = [text for _, text in _read_queries(questions)] if questions else None
        missing = find_gaps(workspace, found, asked, since=workspace.now() - _span(since))
    facts = {
        "index": f"{found.name}@{found.version}",
        "unanswered_below": found.unanswered_below,
        "calibration": found.calibration,
        "gaps": missing,
    }
    show(facts, as_json=as_json, text=lambda _: [*_gap_lines(missing), *_calibrated(found)])


@app.command()
def calibrate(
    index: IndexName = "",
    cases: Annotated[
        Path | None,
        typer.Option("--cases", help="JSONL or CSV file of labelled questions, as `compare` takes it."),
    ] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Dataset to take them from, `name` or `name@2`.")] = "",
    false_alarms: Annotated[
        float, typer.Option("--false-alarms", min=0.001, max=0.5, help="Share of answered questions reported as gaps.")
    ] = 0.05,
    undo: Annotated[bool, typer.Option("--undo", help="Go back to the model as it is shipped.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Move what counts as not covered to your own questions, so that the stated rate of false alarms holds for them.

    A question is answered where it names `documents`, `spans` or an `expected` answer, or says "answerable": true. At
    5 % false alarms that takes 19 of them; 100 are better. Those with "answerable": false only tell how many are
    still found.
    """
    from slipway.domain.errors import InputError
    from slipway.evaluate.cases import read_cases
    from slipway.evaluate.dataset import load_dataset
    from slipway.retrieve.calibration import calibrate_index, undo_calibration
    from slipway.retrieve.index import load_index

    if sum([cases is not None, bool(dataset), undo]) != 1:
        raise InputError("Name labelled questions of yours with --cases FILE or --dataset NAME, or say --undo.")
    with open_here(folder) as workspace:
        found = load_index(workspace, index or workspace.settings.retrieve.index)
        if undo:
            found = undo_calibration(workspace, found)
        else:
            given = read_cases(cases) if cases else load_dataset(workspace, dataset).cases
            with progress("Asking", quiet=as_json) as tell:
                found = calibrate_index(workspace, found, given, false_alarms=false_alarms, on_progress=tell)
    facts = {
        "index": f"{found.name}@{found.version}",
        "unanswered_below": found.unanswered_below,
        "calibration": found.calibration,
    }
    show(facts, as_json=as_json, text=lambda _: _calibration_lines(found))


@app.command()
def explain(
    trace: Annotated[str, typer.Argument(help="Id of the trace whose answer is taken apart.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what an answer came from: passages with their shares, and sentences that none of them supports."""
    from slipway.watch.origin import explain_trace

    with open_here(folder) as workspace:
        found = explain_trace(workspace, trace)
    show(found, as_json=as_json, text=_origin_lines)


@app.command()
def remove(
    index: Annotated[str, typer.Argument(help="Version to remove, as NAME@VERSION.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Remove one index version with its file; a release that answers from it no longer can."""
    from slipway.domain.errors import InputError
    from slipway.retrieve.index import load_index, remove_index

    if "@" not in index:
        raise InputError(f"Name the version to remove, such as {index}@1. See: slipway retrieve list")
    with open_here(folder) as workspace:
        found = load_index(workspace, index)
        remove_index(workspace, found)
    show({"removed": index}, as_json=as_json, text=f"{index} is removed.")


def _embedder(workspace: Any, kind: str) -> Any:
    from slipway.models.choice import choose_embedder

    table = workspace.settings.retrieve.embedder
    return workspace.embedder if table.get("kind") == kind else choose_embedder({"kind": kind})


def _one_line(index: Any) -> str:
    how = f"embedded by {index.embedder}" if index.embedder else "lexical only (no embedder)"
    return f"{index.name}@{index.version}: {len(index.documents)} documents, {index.chunks} chunks, {how}"


def _left_out(loaded: Any) -> list[str]:
    return [
        *(f"not read: {item.source}: {item.reason}" for item in loaded.unreadable),
        *(f"same text: {same.source} as {same.document}" for same in loaded.duplicates),
    ]


def _describe_search(index: Any) -> str:
    search = index.search
    fit = index.alpha_fit
    fitted = f", fitted on {fit.questions} made questions" if fit else ""
    lexical = f"alpha {search.alpha:g} (lexical{fitted})"
    weights = lexical if index.dimensions else "alpha does not count: there are no vectors"
    kept = f", only where {search.where}" if search.where else ""
    more = _describe_more(search)
    return (
        f"searched by {search.similarity}, {weights}, cut {search.cut:g}, at most {search.limit} passages{kept}{more}"
    )


def _describe_more(search: Any) -> str:
    reranker = f", reranked by {search.reranker}" if search.reranker else ""
    return reranker + (f", follow-ups rewritten by {search.rewriting}" if search.rewriting else "")


def _describe_coverage(index: Any) -> str:
    coverage = index.coverage
    if coverage is None:
        return "not calibrated: whether a question is covered is not told"
    if index.calibration is not None:
        told = _found_line("asked without what answers them, it finds", index.calibration.left_out)
        return "\n".join(
            [f"a question counts as not covered below {coverage.threshold:.2f}", *_calibrated(index), *told]
        )
    basis = f"{coverage.questions} made questions" if coverage.questions >= 40 else "the general model (few chunks)"
    return (
        f"a question counts as not covered below {coverage.threshold:.2f}; at about {coverage.false_alarms:.0%} false "
        f"alarms this finds {coverage.found:.0%} of the questions whose document is missing, by {basis}"
    )


def _calibrated(index: Any) -> list[str]:
    """How an index was calibrated on own questions, and where that was another version."""
    from slipway.retrieve.calibration import describe_calibration

    if index.calibration is None:
        return []
    here, of = f"{index.name}@{index.version}", index.calibration.index
    carried = "" if of == here else f"; asked of {of}: ask again with slipway retrieve calibrate {index.name}"
    return [describe_calibration(index.calibration) + carried]


def _carried(before: Any, index: Any) -> list[str]:
    if before is None or before.calibration is None or index.calibration is not None:
        return _calibrated(index)
    return [
        f"not carried on: the calibration of {before.name}@{before.version}, for other features tell coverage now. "
        f"Calibrate again: slipway retrieve calibrate {index.name} --cases FILE"
    ]


def _calibration_lines(index: Any) -> list[str]:
    from slipway.retrieve.calibration import found_rows, most_unseen

    calibration = index.calibration
    if calibration is None:
        return [f"{index.name}@{index.version} is as it was shipped: {_describe_coverage(index)}"]
    rows = [
        (what, found.of, *(_share_of(count, found.of) for count in (found.before, found.after)))
        for what, found in found_rows(calibration)
    ]
    return [
        f"{index.name}@{index.version} is {_calibrated(index)[0]}",
        table(("questions", "number", "as shipped", "calibrated"), rows),
        "False alarms after calibrating are counted with each question left out of it. In brackets: 95 % intervals.",
        *(
            ["Most gaps go unseen at this rate. A higher one finds more of them: --false-alarms"]
            * most_unseen(calibration)
        ),
    ]


def _found_line(what: str, found: Any) -> list[str]:
    return [f"{what} {_share_of(found.after, found.of)} (as shipped {_share_of(found.before, found.of)})"] * bool(
        found.of
    )


def _share_of(count: int, of: int) -> str:
    from slipway.intervals import wilson

    low, high = wilson(count, of)
    return f"{100 * count / of:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def _passage_lines(result: Any, threshold: float) -> list[str]:
    verdict = "covered" if result.answerable >= threshold else "probably not covered by the documents"
    lines = [f"{result.question}  (answerable {result.answerable:.2f}: {verdict})"]
    for number, passage in enumerate(result.passages, start=1):
        legs = f"words {passage.lexical:.2f} + vectors {passage.dense:.2f}"
        if passage.first_score is not None:
            legs = f"reranked, before {passage.first_score:.2f}: {legs}"
        lines.append(f"\n{number}. {passage.document} [{passage.start}:{passage.end}]  {passage.score:.2f} ({legs})")
        lines.append("   " + " ".join(passage.text.split())[:300])
    if not result.passages:
        lines.append("No passage holds any of these words.")
    if result.reranked is not None:
        used = result.reranked
        spent = f"{used.input_tokens} tokens in, {used.output_tokens} out, ${used.cost_micros / 1e6:.6f}"
        lines.append(f"\nnot reranked: {used.failed}" if used.failed else f"\nreranked by {used.engine}: {spent}")
    return lines


def _comparison_lines(comparison: Any, *, asked_to_apply: bool = False) -> list[str]:
    made = " (made from the documents)" if comparison.made else ""
    rows = [
        (
            "*" if row is comparison.best else "",
            row.chunker, row.size, row.embedder.split(" ")[0] or "words only", row.similarity, row.alpha, row.cut,
            f"{row.ndcg.value:.3f} [{row.ndcg.low:.3f}, {row.ndcg.high:.3f}]",
            row.recall.value, row.iou.value if row.iou else None, row.mrr.value, round(row.tokens),
        )
        for row in comparison.rows
    ]  # fmt: skip
    head = (
        "",
        "chunker",
        "size",
        "embedder",
        "similarity",
        "alpha",
        "cut",
        "nDCG@10",
        "recall",
        "IoU",
        "MRR",
        "tokens",
    )
    best = comparison.best
    lines = [
        f"{comparison.questions} questions{made}, {comparison.documents} documents",
        table(head, rows),
        f"Best: {best.chunker}, size {best.size}, alpha {best.alpha:g}, cut {best.cut:g}. {comparison.verdict}",
    ]
    if comparison.applied:
        lines.append(f"slipway.toml is set to it, and {comparison.applied} is built with it.")
    elif asked_to_apply and comparison.best != comparison.current:
        lines.append(
            "slipway.toml was not changed: the best is not clearly better. Set it all the same: --apply --force"
        )
    elif asked_to_apply:
        lines.append("slipway.toml has this setting already.")
    return lines


def _origin_lines(found: Any) -> list[str]:
    marks = {"words": " ", "similar": "~", "none": "!", "nothing to support": " "}
    lines = []
    for sentence in found.sentences:
        where, like = "", f", similarity {sentence.similarity:.2f}" if sentence.similarity is not None else ""
        if sentence.passage is not None:
            source = found.passages[sentence.passage]
            shared = f"{sentence.supported_words} of {sentence.words} words"
            place = f"{source.document} [{sentence.evidence_start}:{sentence.evidence_end}]"
            where = f"{sentence.passage + 1}. {place}  ({shared}{like})"
        elif sentence.support == "none":
            absent = f"; not there: {', '.join(sentence.missing_numbers)}" if sentence.missing_numbers else ""
            where = f"no passage supports it{like}{absent}"
        lines.append(f"{marks[sentence.support]} {' '.join(sentence.text.split())}")
        lines += [f"    {where}"] if where else []
    rows = [
        (number, one.document, f"{one.start}:{one.end}", one.sentences, one.words, f"{one.share:.0%}")
        for number, one in enumerate(found.passages, start=1)
    ]
    lines += ["", table(("", "passage", "characters", "sentences", "words", "share"), rows)]
    missing = len(found.without_support)
    lines.append(
        f"Without support: {missing} of {len(found.sentences)} sentences; {found.unsupported:.0%} of the words are not "
        f"in a passage that supports their sentence. Measured by {found.measure}."
    )
    return lines


def _gap_lines(gaps: Any) -> list[str]:
    if not gaps:
        return ["Every question is covered by the documents."]
    lines = []
    for gap in gaps:
        times = "once" if gap.volume == 1 else f"{gap.volume} times"
        lines.append(f"{gap.topic}  (asked {times}, nearest: {', '.join(gap.nearest) or 'none'})")
        lines += [f"  - {question}" for question in gap.questions[:5]]
        lines.append(f"  {gap.suggestion.split(' that answers')[0]}.")
    return lines


def _read_queries(path: Path) -> list[tuple[str, str]]:
    """(id, question) of each line: a JSON object, or the question itself. Raises `FileMissing`, `FileBroken`."""
    from slipway.retrieve.questions import read_questions

    return read_questions(path)


def _span(text: str) -> Any:
    import re
    from datetime import timedelta

    from slipway.domain.errors import InputError

    found = re.fullmatch(r"(\d+)([mhdw])", text.strip())
    if not found:
        raise InputError(f"'{text}' is no span of time. Write a number with m, h, d or w, such as 7d.")
    unit = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}[found[2]]
    return timedelta(**{unit: int(found[1])})
