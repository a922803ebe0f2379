"""The library of prompts: files in the prompts folder and immutable versions in the store, kept in agreement.

The file is where a prompt is edited; the store keeps every version that a file ever had. The label `current` stands
on the version that the file holds. Rolling back writes the old version into the file again, so both still agree.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from slipway.domain.errors import NameInvalid, NotFound, PromptInvalid
from slipway.domain.ids import is_name, new_id
from slipway.domain.prompt import LabelMove, Prompt
from slipway.prompt.files import read_prompt_file, write_prompt
from slipway.store.records import Kind, register
from slipway.workspace import Workspace

register(LabelMove, Kind(kind="label_move", name="prompt", created="at"))

CURRENT = "current"


def sync_prompts(workspace: Workspace, *, by: str = "") -> list[Prompt]:
    """The current prompt of every file, saved as a new version where its content is new.

    A file with the content of an earlier version is that version again. Nothing is saved when one file is broken.
    Raises `FileBroken`, `NameInvalid`, `StoreError`.
    """
    read = [read_prompt_file(path, created_at=workspace.now()) for path in prompt_files(workspace)]
    with workspace.store.transaction():
        return [save_prompt(workspace, prompt, by=by) for prompt in read]


def prompt_files(workspace: Workspace) -> list[Path]:
    """The prompt files of the application, by name."""
    return sorted((workspace.folder / workspace.settings.prompt.folder).glob("*.md"))


def save_prompt(workspace: Workspace, prompt: Prompt, *, by: str = "") -> Prompt:
    """The version that holds this content, made if there is none yet, and labelled `current`."""
    versions = history(workspace, prompt.name)
    saved = next((version for version in versions if version.hash == prompt.hash), None)
    if saved is None:
        number = versions[0].version + 1 if versions else 1
        saved = replace(prompt, version=number, labels=(), author=prompt.author or by, created_at=workspace.now())
        workspace.store.records.save(saved)
    if CURRENT in saved.labels:
        return saved
    return set_label(workspace, f"{saved.name}@{saved.version}", CURRENT, by=by)


def load_prompt(workspace: Workspace, ref: str) -> Prompt:
    """`answer` is the current version, `answer@2` a version, `answer@live` the version with that label.

    Raises `NotFound` with what there is.
    """
    name, _, which = ref.partition("@")
    if which.isdigit():
        with suppress(NotFound):
            return workspace.store.records.recent(Prompt, ref)
    versions = history(workspace, name)
    if not versions:
        known = workspace.store.records.names(Prompt)
        raise NotFound(
            "prompt", name, known=known, next_step=f"Write prompts/{name}.md and read it in: slipway prompt list"
        )
    wanted = which or CURRENT
    for prompt in versions:
        if str(prompt.version) == wanted or wanted in prompt.labels:
            return prompt
    if not which:
        return versions[0]
    known = [str(prompt.version) for prompt in versions] + [label for prompt in versions for label in prompt.labels]
    raise NotFound(f"version or label of prompt '{name}'", which, known=known)


def list_prompts(workspace: Workspace) -> list[Prompt]:
    """The current version of every prompt in the store, by name."""
    return [load_prompt(workspace, name) for name in workspace.store.records.names(Prompt)]


def history(workspace: Workspace, name: str) -> list[Prompt]:
    """All versions of one prompt, the newest first."""
    versions: Sequence[Prompt] = workspace.store.records.list(Prompt, name=name)
    return sorted(versions, key=lambda prompt: prompt.version, reverse=True)


def set_label(workspace: Workspace, ref: str, label: str, *, by: str = "") -> Prompt:
    """Moves a label to a version of a prompt; a label stands on one version at a time. Keeps who moved it and when.

    Raises `NotFound`, `NameInvalid`, and `PromptInvalid` for a label that reads like a version number.
    """
    if not is_name(label):
        raise NameInvalid("a label", label)
    if label.isdigit():
        raise PromptInvalid(f"label '{label}'", "a label must not be a number, because numbers name versions")
    target = load_prompt(workspace, ref)
    before = 0
    with workspace.store.transaction():
        for prompt in history(workspace, target.name):
            if label in prompt.labels and prompt.version != target.version:
                before = prompt.version
                kept = tuple(one for one in prompt.labels if one != label)
                workspace.store.records.save(replace(prompt, labels=kept))
        labelled = replace(target, labels=tuple(sorted({*target.labels, label})))
        workspace.store.records.save(labelled)
        workspace.store.records.save(
            LabelMove(
                id=new_id(),
                prompt=target.name,
                label=label,
                version=target.version,
                before=before,
                by=by,
                at=workspace.now(),
            )
        )
    return labelled


def label_moves(workspace: Workspace, name: str) -> list[LabelMove]:
    """Who moved which label of a prompt, and when; the newest first."""
    return workspace.store.records.list(LabelMove, name=name)


def roll_back(workspace: Workspace, name: str, *, to: int | None = None, by: str = "") -> Prompt:
    """Makes an earlier version current again, in the store and in the file. Without `to`, the one before.

    Raises `NotFound` when there is no such version.
    """
    current = load_prompt(workspace, name)
    wanted = to if to is not None else current.version - 1
    earlier = load_prompt(workspace, f"{name}@{wanted}")
    path = workspace.folder / workspace.settings.prompt.folder / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".md.new")
    new.write_text(write_prompt(earlier), encoding="utf-8")
    saved = set_label(workspace, f"{name}@{earlier.version}", CURRENT, by=by)
    new.replace(path)
    return saved
