"""Cuts a release from its parts, each pinned by hash, and finds releases again."""

from dataclasses import asdict

from slipway.domain.decoding import Decoding
from slipway.domain.errors import ConfigError, NotFound
from slipway.domain.guardrail import Guardrails
from slipway.domain.ids import ReleaseId, hash_parts
from slipway.domain.index import Index
from slipway.domain.model import Model
from slipway.domain.release import Channel, PartRef, Release
from slipway.guard.parts import guardrails_from_settings
from slipway.models.choice import choose_engine
from slipway.prompt.library import load_prompt, sync_prompts
from slipway.workspace import Workspace


def cut_release(workspace: Workspace, *, note: str = "") -> Release:
    """The release of what slipway.toml, the prompt files and the latest index say now.

    The same parts give the same release: nothing new is cut. Raises `NotFound` when the index was never built.
    """
    settings = workspace.settings
    sync_prompts(workspace)
    prompt = load_prompt(workspace, settings.prompt.name)
    index = workspace.store.records.latest(Index, settings.retrieve.index)
    if index is None:
        raise NotFound("index", settings.retrieve.index, next_step="Build it: slipway retrieve build")
    return save_release(
        workspace,
        model=pin_model(workspace, settings.release.engine, settings.release.model),
        decoding=Decoding(
            temperature=settings.release.temperature,
            top_p=settings.release.top_p,
            max_tokens=settings.release.max_tokens,
            seed=settings.release.seed,
        ),
        prompt=PartRef(name=prompt.name, version=prompt.version, hash=prompt.hash),
        index=PartRef(name=index.name, version=index.version, hash=index.hash),
        guardrails=guardrails_from_settings(settings),
        note=note,
    )


def cut_plain_release(workspace: Workspace, *, engine: str, model: str, note: str = "") -> Release:
    """A release that forwards what clients send to `model` unchanged, behind the configured guardrails.

    Raises `ConfigError` for the engine that only quotes passages: it has none to quote here.
    """
    if engine == "extractive":
        reason = "the engine 'extractive' only quotes. Name one that writes: engine = \"NAME\"."
        raise ConfigError("[release] engine", reason)
    return save_release(
        workspace,
        model=pin_model(workspace, engine, model),
        decoding=Decoding(temperature=None, max_tokens=None, seed=None),
        prompt=None,
        index=None,
        guardrails=guardrails_from_settings(workspace.settings),
        note=note,
    )


def pin_model(workspace: Workspace, engine: str, name: str) -> Model:
    """The model part; an engine that carries its own weights or rules pins them by its `digest`."""
    backend = choose_engine(workspace.settings, engine, folder=workspace.folder)
    return Model(engine=engine, name=name, digest=str(getattr(backend, "digest", "")))


def save_release(
    workspace: Workspace,
    *,
    model: Model,
    decoding: Decoding,
    prompt: PartRef | None,
    index: PartRef | None,
    guardrails: Guardrails,
    note: str,
) -> Release:
    """Saves a release under the hash of its parts, or returns the one that has them already."""
    records = workspace.store.records
    id = release_id(
        workspace.application, model=model, decoding=decoding, prompt=prompt, index=index, guardrails=guardrails
    )
    with workspace.store.transaction():
        existing = records.find(Release, id)
        if existing is not None:
            return existing
        release = Release(
            id=id,
            application=workspace.application,
            number=records.next_version(Release, workspace.application),
            model=model,
            decoding=decoding,
            prompt=prompt,
            index=index,
            guardrails=guardrails,
            created_at=workspace.now(),
            note=note,
        )
        parents = [("prompt", str(prompt))] if prompt else []
        parents += [("index", str(index))] if index else []
        records.save(release, state="candidate", parents=parents)
        return release


def release_id(
    application: str,
    *,
    model: Model,
    decoding: Decoding,
    prompt: PartRef | None,
    index: PartRef | None,
    guardrails: Guardrails,
) -> ReleaseId:
    """Hash of the parts: names and numbers of versions do not count, their content does."""
    return ReleaseId(
        hash_parts(
            {
                "application": application,
                "model": asdict(model),
                "decoding": asdict(decoding),
                "prompt": prompt.hash if prompt else None,
                "index": index.hash if index else None,
                "guardrails": guardrails.hash,
            }
        )
    )


def list_releases(workspace: Workspace) -> list[Release]:
    """All releases of the application, newest first."""
    return workspace.store.records.list(Release, name=workspace.application)


def load_release(workspace: Workspace, reference: str = "") -> Release:
    """A release by id or its beginning, `support@14`, a channel's name, or nothing for the newest one.

    A channel gives the release with its largest share. Raises `NotFound`.
    """
    releases = list_releases(workspace)
    if not releases:
        raise NotFound("release", reference or "newest", next_step="Cut one: slipway release cut")
    if not reference:
        return releases[0]
    channel = workspace.store.records.find(Channel, reference)
    if channel is not None and channel.shares:
        reference = max(channel.shares, key=lambda share: share.weight).release
    found = [
        release
        for release in releases
        if release.label == reference or (len(reference) >= 6 and release.id.startswith(reference))
    ]
    if not found:
        known = [release.label for release in releases]
        raise NotFound("release", reference, known=known, next_step="List them: slipway release list")
    return found[0]
