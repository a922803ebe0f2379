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
from slipway.domain.errors import ConfigError, ReleaseUnavailable, SlipwayError, did_you_mean
from slipway.domain.ids import ReleaseId
from slipway.domain.release import Channel, Release
from slipway.domain.routing import FailureKind
from slipway.gateway.canaries import Canaries, CanaryWatch
from slipway.gateway.steering import Steering
from slipway.gateway.targets import Target, make_raw_target, make_target
from slipway.store.records import Read
from slipway.workspace import Workspace

log = logging.getLogger("slipway.gateway")
MOST_STAND_INS = 1024
MOST_RAW = 1024
"""Models past every release that are remembered; a name that nobody else used may be anything."""


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
    watches: Mapping[str, CanaryWatch] = field(default_factory=dict)
    """Canaries under watch, by channel."""
    shadowed: frozenset[str] = frozenset()
    """Channels whose requests are copied to a shadow."""
    writes: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """How often channels, keys and releases had been written, as `Records.writes` gives it."""
    _read_keys: Mapping[str, Read[ApiKey]] = field(default_factory=dict, compare=False, repr=False)
    _stand_ins: dict[tuple[str, str], Target | None] = field(default_factory=dict, compare=False, repr=False)
    _raw: dict[str, Target] = field(default_factory=dict, compare=False, repr=False)

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

    def raw_target(self, model: str) -> Target:
        """The target of `engine/model`, past every release. Raises what `choose_engine` raises.

        Made once, like that of a release: to read an engine's settings takes longer than all the rest of a request.
        """
        target = self._raw.get(model)
        if target is None:
            engine, _, name = model.partition("/")
            target = make_raw_target(self.workspace, engine, name)
            if target.broken is None:
                if len(self._raw) >= MOST_RAW:
                    del self._raw[next(iter(self._raw))]
                self._raw[model] = target
        return target

    def fallbacks(self, channel: str, target: Target, kind: FailureKind) -> list[Target]:
        """Who answers instead of a target that failed in this way, in order. What cannot answer here is left out."""
        chains = self.workspace.settings.routing.fallback
        if not chains:
            return []
        chain = chains.get(channel) or chains.get(target.label) or chains.get(target.engine)
        if chain is None:
            return []
        names = getattr(chain, kind)
        if names is None:
            names = chain.to if kind != "content_filter" else []
        found = (self._stand_in(name, target.model) for name in names)
        return [other for other in found if other is not None and other is not target]

    def check_fallbacks(self) -> None:
        """Looks all fallbacks up, which also prices them. Raises `ConfigError` for one that names nothing here.

        Whom they stand in for may come later, a channel with the next promotion: the log says who is not there.
        """
        engines = self.workspace.settings.engines
        for key, chain in self.workspace.settings.routing.fallback.items():
            if key not in self.channels and key not in self.by_label and key not in engines:
                known = [*self.channels, *self.by_label, *engines]
                log.warning(
                    "[routing.fallback.%s] is for no channel, release or engine that there is now.%s",
                    key,
                    did_you_mean(key, known),
                )
            lists = (chain.to, chain.rate_limit, chain.timeout, chain.server_error, chain.unreachable)
            for name in [name for names in (*lists, chain.content_filter) for name in names or ()]:
                if self._release(name) is None:
                    engine, _, model = name.partition("/")
                    try:
                        # Looks its price up too: the list is heavy to load, and not in the middle of a request.
                        make_raw_target(self.workspace, engine, model)
                    except SlipwayError as wrong:
                        raise ConfigError(f"[routing.fallback.{key}]", f"'{name}' cannot answer: {wrong}") from wrong
            for target in self.targets.values():
                if key in (target.label, target.engine) or key in self.channels:
                    for name in chain.to:
                        self._stand_in(name, target.model)

    def _release(self, name: str) -> ReleaseId | None:
        return name if name in self.targets else self.by_label.get(name)  # type: ignore[return-value]

    def _stand_in(self, name: str, model: str) -> Target | None:
        """A release by label or id, or `engine/model`; a bare engine is asked for the same model."""
        key = (name, model)
        if key not in self._stand_ins:
            found: Target | None = None
            try:
                release = self._release(name)
                if release is not None:
                    found = self.target(release)
                else:
                    engine, _, other = name.partition("/")
                    found = make_raw_target(self.workspace, engine, other or model)
            except SlipwayError as wrong:
                log.warning("the fallback '%s' cannot answer: %s", name, wrong)
            if len(self._stand_ins) < MOST_STAND_INS:
                self._stand_ins[key] = found
            return found
        return self._stand_ins[key]

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


def load_snapshot(
    workspace: Workspace, *, before: Snapshot | None = None, canaries: Canaries | None = None
) -> Snapshot:
    """What the store says now. What `before` knows of releases is kept: their parts never change.

    Raises `StoreError`, and `ConfigError` where slipway.toml names a fallback that there is not.
    """
    records = workspace.store.records
    day = datetime.now(UTC).date()
    # Looked at before it is read: what changes in between is read once more.
    writes = records.writes(Channel, ApiKey, Release)
    same = before is not None and before.workspace is workspace
    # What was found on an earlier day has the prices of that day.
    kept = before if before is not None and same and before.day == day else None
    if kept is not None and kept.writes == writes:
        watches = canaries.watch(kept.channels.values()) if canaries is not None else {}
        return kept if watches == kept.watches else replace(kept, watches=watches)
    channels = {channel.name: channel for channel in records.list(Channel)}
    known = kept.targets if kept else {}
    wanted = {share.release for channel in channels.values() for share in channel.shares}
    targets = dict(known)
    if not wanted <= known.keys() or records.count(Release, name=workspace.application) != len(known):
        for release in records.list(Release, name=workspace.application):
            if release.id not in targets:
                targets[release.id] = make_target(workspace, release)
    if before is not None and targets.keys() == known.keys():
        targets = dict(before.targets)
    read_keys, keys = (before._read_keys, before.keys) if before is not None and same else ({}, {})
    if before is None or not same or before.writes[1] != writes[1]:
        # There may be one for each customer, and most of them as before.
        read_keys = records.read_again(ApiKey, read_keys)
        keys = {read.noun.hash: read.noun for read in read_keys.values()}
    snapshot = Snapshot(
        workspace=workspace,
        channels=channels,
        shadowed=frozenset(name for name, channel in channels.items() if channel.shadow is not None),
        targets=targets,
        by_label={target.label: id for id, target in targets.items()},
        keys=keys,
        day=day,
        watches=canaries.watch(channels.values()) if canaries is not None else {},
        writes=writes,
        _read_keys=read_keys,
        _stand_ins=kept._stand_ins if kept else {},
        _raw=kept._raw if kept else {},
    )
    if not same:
        snapshot.check_fallbacks()
    return snapshot


class Watcher:
    """Keeps a gateway's snapshot fresh from a thread; `reload` also reads slipway.toml again.

    What cannot be read is logged once, and the snapshot that served before goes on serving. `also` is done as often, in
    a thread of its own: it may wait for a database that somebody else writes to, and what is read from one must not.
    """

    def __init__(
        self,
        first: Snapshot,
        *,
        use: Callable[[Snapshot], None],
        also: Callable[[], None],
        canaries: Canaries,
        steering: Steering,
        every_s: float = 1.0,
    ) -> None:
        self._snapshot = first
        self._canaries = canaries
        self._steering = steering
        self._use = use
        self._also = also
        self._every_s = every_s
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._reread = False
        self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
        self._writer = threading.Thread(target=self._write, name="written down", daemon=True)
        self.fresh_at = monotonic()
        self._unread = self._unwritten = ""
        self.refused = ""
        """Why the last slipway.toml that was read again was not taken; empty when it was."""
        self.taken = 0
        self.refusals = 0

    @property
    def problem(self) -> str:
        """What cannot be read, or else what cannot be written down; empty while all is well."""
        return self._unread or self._unwritten

    def start(self) -> None:
        self._thread.start()
        self._writer.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(5)
        self._writer.join(5)
        if self._thread.is_alive() or self._writer.is_alive():
            # Who asked the store last has no answer yet, and would be waited for without end.
            log.warning("what was used last is written down by the next start: the store does not answer")
            return
        self._refresh()
        self._write_once()

    def reload(self) -> None:
        """Reads slipway.toml and the store again, soon. Safe from a signal handler."""
        self._reread = True
        self._wake.set()

    def look_soon(self) -> None:
        """Refreshes without waiting for the next turn."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._every_s)
            self._wake.clear()
            if not self._stop.is_set():
                self._refresh()

    def _write(self) -> None:
        while not self._stop.wait(self._every_s):
            self._write_once()

    def _write_once(self) -> None:
        try:
            self._also()
        except Exception as wrong:
            # The thread must go on: without it nothing is written down any more.
            if str(wrong) != self._unwritten:
                log.warning("counts wait to be written down: %s", wrong, exc_info=not _expected(wrong))
            self._unwritten = str(wrong)
        else:
            self._unwritten = ""

    def _refresh(self) -> None:
        reread, self._reread = self._reread, False
        try:
            workspace = self._snapshot.workspace
            if reread:
                workspace = replace(workspace, settings=load_settings(workspace.folder))
            fresh = load_snapshot(workspace, before=self._snapshot, canaries=self._canaries)
            if reread:
                _refuse_if_worse(fresh, self._snapshot)
        except Exception as wrong:
            # The thread must go on: without it nothing is read any more.
            if str(wrong) != self._unread:
                log.warning("the gateway goes on with what it knew: %s", wrong, exc_info=not _expected(wrong))
            self._unread = str(wrong)
            if reread:
                self.refused, self.refusals = str(wrong), self.refusals + 1
            return
        self._unread = ""
        self.fresh_at = monotonic()
        if fresh != self._snapshot:
            self._snapshot = fresh
            self._use(fresh)
        if reread:
            self.refused, self.taken = "", self.taken + 1
            log.info("slipway.toml and the store were read again")
        self._steer()

    def _steer(self) -> None:
        snapshot = self._snapshot
        try:
            if self._steering.steer(snapshot.workspace, snapshot.channels, snapshot.watches):
                self._wake.set()
        except Exception as wrong:
            if not isinstance(wrong, SlipwayError):
                log.exception("the traffic is not steered")
            self._unread = str(wrong)


def _expected(wrong: Exception) -> bool:
    return isinstance(wrong, SlipwayError | OSError)


def _refuse_if_worse(fresh: Snapshot, before: Snapshot) -> None:
    """Raises what would break a release that a channel serves and that answered until now."""
    for channel in fresh.channels.values():
        for share in channel.shares:
            now, then = fresh.targets.get(share.release), before.targets.get(share.release)
            if now is not None and now.broken is not None and then is not None and then.broken is None:
                raise now.broken
