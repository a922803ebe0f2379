"""What a gateway serves at one moment: channels, releases and keys, read from the store and swapped as a whole."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from time import monotonic

from slipway.config.reader import load_settings
from slipway.domain.access import ApiKey
from slipway.domain.errors import ReleaseUnavailable, SlipwayError
from slipway.domain.ids import ReleaseId
from slipway.domain.release import Channel, Release
from slipway.gateway.targets import Target, make_target
from slipway.workspace import Workspace

log = logging.getLogger("slipway.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Immutable: a request that began with one snapshot ends with it."""

    workspace: Workspace
    channels: Mapping[str, Channel] = field(default_factory=dict)
    targets: Mapping[ReleaseId, Target] = field(default_factory=dict)
    by_label: Mapping[str, ReleaseId] = field(default_factory=dict)
    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    """API keys by the hash of their text."""
    day: date = field(default_factory=lambda: datetime.now(UTC).date())
    """Day of the prices in `targets`."""

    def target(self, release: ReleaseId) -> Target:
        """Raises `ReleaseUnavailable` where the release cannot answer here."""
        target = self.targets.get(release)
        if target is None:
            raise ReleaseUnavailable(
                release[:12], "the store does not hold it. Promote another: slipway release promote"
            )
        if target.broken is not None:
            raise ReleaseUnavailable(target.label, str(target.broken))
        return target

    def problems(self) -> list[str]:
        """What keeps channels from answering."""
        found = []
        for channel in self.channels.values():
            for share in channel.shares:
                try:
                    self.target(share.release)
                except ReleaseUnavailable as wrong:
                    found.append(f"{channel.name}: {wrong}")
        return found


def load_snapshot(workspace: Workspace, *, before: Snapshot | None = None) -> Snapshot:
    """What the store says now. What `before` knows of releases is kept: their parts never change.

    Raises `StoreError`.
    """
    records = workspace.store.records
    channels = {channel.name: channel for channel in records.list(Channel)}
    day = datetime.now(UTC).date()
    known = before.targets if before is not None and before.workspace is workspace and before.day == day else {}
    wanted = {share.release for channel in channels.values() for share in channel.shares}
    targets = dict(known)
    if not wanted <= known.keys() or records.count(Release, name=workspace.application) != len(known):
        for release in records.list(Release, name=workspace.application):
            if release.id not in targets:
                targets[release.id] = make_target(workspace, release)
    if before is not None and targets.keys() == known.keys():
        targets = dict(before.targets)
    return Snapshot(
        workspace=workspace,
        channels=channels,
        targets=targets,
        by_label={target.label: id for id, target in targets.items()},
        keys={key.hash: key for key in records.list(ApiKey)},
        day=day,
    )


class Watcher:
    """Keeps a gateway's snapshot fresh from a thread; `reload` also reads slipway.toml again.

    What cannot be read is logged once, and the snapshot that served before goes on serving. `also` is done each time.
    """

    def __init__(
        self, first: Snapshot, *, use: Callable[[Snapshot], None], also: Callable[[], None], every_s: float = 1.0
    ) -> None:
        self._snapshot = first
        self._use = use
        self._also = also
        self._every_s = every_s
        self._wake = threading.Event()
        self._stop = False
        self._reread = False
        self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
        self.fresh_at = monotonic()
        self.problem = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop = True
        self._wake.set()
        self._thread.join(5)
        self._refresh()

    def reload(self) -> None:
        """Reads slipway.toml and the store again, soon. Safe from a signal handler."""
        self._reread = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stop:
            self._wake.wait(self._every_s)
            self._wake.clear()
            if not self._stop:
                self._refresh()

    def _refresh(self) -> None:
        reread, self._reread = self._reread, False
        try:
            workspace = self._snapshot.workspace
            if reread:
                workspace = replace(workspace, settings=load_settings(workspace.folder))
            fresh = load_snapshot(workspace, before=self._snapshot)
            self._also()
            if reread:
                _refuse_if_worse(fresh, self._snapshot)
        except SlipwayError as wrong:
            if str(wrong) != self.problem:
                log.warning("the gateway goes on with what it knew: %s", wrong)
            self.problem = str(wrong)
            return
        self.problem = ""
        self.fresh_at = monotonic()
        if reread:
            log.info("slipway.toml and the store were read again")
        if fresh != self._snapshot:
            self._snapshot = fresh
            self._use(fresh)


def _refuse_if_worse(fresh: Snapshot, before: Snapshot) -> None:
    """Raises what would break a release that a channel serves and that answered until now."""
    for channel in fresh.channels.values():
        for share in channel.shares:
            now, then = fresh.targets.get(share.release), before.targets.get(share.release)
            if now is not None and now.broken is not None and then is not None and then.broken is None:
                raise now.broken
