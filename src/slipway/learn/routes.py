"""Drafts the change that answers a finding, and applies it when a person has looked at it."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from slipway.domain.errors import Conflict, FileMissing
from slipway.domain.feedback import Draft, Finding
from slipway.domain.ids import hash_text
from slipway.learn.inbox import set_state
from slipway.prompt.library import load_prompt
from slipway.store.files import write_bytes, write_text
from slipway.workspace import Workspace

WRITE_HERE = "(Write the answer here.)"
CONDITION = "If the passages do not hold the answer, reply exactly: The documents do not answer this question."
EVIDENCE = "Quote only what the passages say, and name the passage after each statement as [n]."


def draft(workspace: Workspace, finding: Finding) -> Draft:
    """The change as a file in the drafts folder; the same finding gives the same draft.

    A file that a person has edited is left as it is, and a draft that was applied stays applied.

    knowledge: a document to write. prompt: the prompt file with the missing instruction. dataset: test cases.
    training: pairs of question and correction. guard: the setting to look at.
    """
    path, text = _draft_text(workspace, finding)
    made = Draft(
        id=hash_text(f"{finding.id}\0{path}")[:26],
        finding=finding.id,
        route=finding.route,
        title=finding.title,
        path=path,
        text=text,
        created_at=workspace.now(),
    )
    known = workspace.store.records.find(Draft, made.id)
    if known is not None and known.applied:
        return known
    file = draft_file(workspace, made)
    if not file.exists() or (known is not None and file.read_text(encoding="utf-8") == known.text):
        write_text(file, text)
    with workspace.store.transaction():
        workspace.store.records.save(made, subject=finding.subject, parents=[("finding", finding.id)])
        if finding.state == "open":
            set_state(workspace, finding, "drafted")
    return made


def draft_file(workspace: Workspace, draft: Draft) -> Path:
    """Where a draft waits for a person."""
    return workspace.folder / workspace.settings.learn.drafts / f"{draft.id[:8]}-{Path(draft.path).name}"


def apply_draft(workspace: Workspace, draft: Draft, *, text: str | None = None) -> Path:
    """Puts a draft where it belongs and returns that path. `text` replaces what the draft file holds.

    Raises `Conflict` while the draft still asks to be written, when a document of that name is there already, when
    its lines were added before, or when it is for a person to apply by hand.
    """
    applied = _is_applied(workspace, draft)
    file = draft_file(workspace, draft)
    if text is None:
        if not file.exists():
            raise FileMissing(file, next_step=f"Make the draft again: slipway learn route {draft.finding[:12]}")
        text = file.read_text(encoding="utf-8")
    if WRITE_HERE in text:
        raise Conflict(f"'{file}' still says {WRITE_HERE!r}. Write the answer there, then apply the draft.")
    if draft.route == "guard":
        raise Conflict(f"'{file}' describes a change of slipway.toml. Make it there, then run: slipway up")
    target = workspace.folder / draft.path
    match draft.route:
        case "knowledge" | "prompt":
            if draft.route == "knowledge" and target.exists() and not applied:
                raise Conflict(f"'{target}' is there already. Add what '{file}' says to it, or rename that document.")
            write_text(target, text)
        case "dataset" | "training":
            if applied:
                raise Conflict(f"The lines of '{file}' are in '{target}' already.")
            before = target.read_text(encoding="utf-8") if target.exists() else ""
            write_text(target, _joined(before, text))
        case _:
            assert_never(draft.route)
    _save_applied(workspace, replace(draft, text=text, applied=True))
    return target


def accept_document(workspace: Workspace, draft: Draft, document: Path, *, name: str = "") -> Path:
    """Answers a knowledge draft with a document that somebody wrote elsewhere; returns where it now lies.

    Raises `Conflict` for a draft of another kind, or when a document of that name is there already.
    """
    if draft.route != "knowledge":
        raise Conflict(
            f"The draft for {draft.path} asks for no document. Apply it: slipway learn apply {draft.finding[:12]}"
        )
    if not document.is_file():
        raise FileMissing(document, next_step="Name the document that answers the finding.")
    target = workspace.folder / _documents_folder(workspace) / (name or document.name)
    if target.exists():
        raise Conflict(f"'{target}' is there already. Give the document another name.")
    write_bytes(target, document.read_bytes())
    _save_applied(workspace, replace(draft, path=str(target.relative_to(workspace.folder)), applied=True))
    return target


def _save_applied(workspace: Workspace, draft: Draft) -> None:
    finding = workspace.store.records.find(Finding, draft.finding)
    workspace.store.records.save(
        draft,
        subject=finding.subject if finding else None,
        parents=[("finding", draft.finding)],
        state="applied",
    )


def _is_applied(workspace: Workspace, draft: Draft) -> bool:
    saved = workspace.store.records.find(Draft, draft.id)
    return saved is not None and saved.applied


def _documents_folder(workspace: Workspace) -> str:
    """The first folder inside the application that its documents come from."""
    inside = (source for source in workspace.settings.application.documents if not Path(source).is_absolute())
    return next((source for source in inside if (workspace.folder / source).is_dir()), "documents")


def _draft_text(workspace: Workspace, finding: Finding) -> tuple[str, str]:
    match finding.route:
        case "knowledge":
            return f"{_documents_folder(workspace)}/{_slug(finding)}.md", _document_stub(finding)
        case "prompt":
            return _prompt_edit(workspace)
        case "dataset":
            return workspace.settings.application.questions or "questions.jsonl", _case_lines(finding)
        case "training":
            return "training/pairs.jsonl", _pair_lines(finding)
        case "guard":
            return "guard.md", _guard_note(finding)
        case _:
            assert_never(finding.route)


def _document_stub(finding: Finding) -> str:
    topic = finding.facts.get("topic") or finding.title
    nearest = finding.facts.get("nearest", "")
    lines = [f"# {topic[:1].upper()}{topic[1:]}", ""]
    if nearest:
        lines += [f"<!-- Nearest documents: {nearest} -->", ""]
    for question in dict.fromkeys(finding.questions):
        lines += [f"## {question}", "", WRITE_HERE, ""]
    return "\n".join(lines)


def _prompt_edit(workspace: Workspace) -> tuple[str, str]:
    settings = workspace.settings.prompt
    path = f"{settings.folder}/{settings.name}.md"
    text = (workspace.folder / path).read_text(encoding="utf-8")
    system = load_prompt(workspace, settings.name).system
    missing = [line for line in (CONDITION, EVIDENCE) if line not in system]
    if not missing or system.strip() not in text:
        return path, text
    return path, text.replace(system.strip(), "\n".join([system.strip(), *missing]), 1)


def _case_lines(finding: Finding) -> str:
    return "".join(
        json.dumps({"id": _case_id(finding, question), "question": question, "tags": ["finding"]}, ensure_ascii=False)
        + "\n"
        for question in dict.fromkeys(finding.questions)
    )


def _case_id(finding: Finding, question: str) -> str:
    return f"finding-{hash_text(f'{finding.id} {question}')[:12]}"


def _pair_lines(finding: Finding) -> str:
    correction = finding.facts.get("correction", "")
    return "".join(
        json.dumps({"question": question, "answer": correction, "finding": finding.id}, ensure_ascii=False) + "\n"
        for question in dict.fromkeys(finding.questions)
    )


def _guard_note(finding: Finding) -> str:
    questions = "\n".join(f"- {question}" for question in finding.questions)
    return (
        f"# {finding.title}\n\nStopped questions:\n\n{questions}\n\n"
        "Measure the rail on these first: slipway guard scoreboard FILE. Then change its threshold or action in\n"
        "[guard] of slipway.toml.\n"
    )


def _joined(before: str, text: str) -> str:
    return f"{before.rstrip()}\n{text}" if before.strip() else text


def _slug(finding: Finding) -> str:
    words = re.findall(r"[a-z0-9]+", (finding.facts.get("topic") or finding.title).lower())
    return "-".join(words[:8]) or "finding"
