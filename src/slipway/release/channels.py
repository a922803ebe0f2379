"""Channels: which release answers whom; promote, split, roll back."""

import hashlib
import math
from collections.abc import Sequence

from slipway.domain.errors import Conflict, GateClosed, NotFound
from slipway.domain.ids import ReleaseId
from slipway.domain.release import Channel, Gate, Release, Share
from slipway.release.gate import gate_release
from slipway.release.parts import list_releases
from slipway.workspace import Workspace

CANARY = "canary"


def choose_release(channel: Channel, key: str) -> ReleaseId:
    """The release that answers this caller: the same key always gets the same one while the shares stand.

    `key` is the end user, the session, or the request id where neither is known. A share that grows keeps whom it
    had: each release owns a stretch of [0, 1) in the order of the shares.
    """
    total = sum(share.weight for share in channel.shares)
    point = int.from_bytes(hashlib.sha256(f"{channel.name}\0{key}".encode()).digest()[:8], "big") / 2**64 * total
    for share in channel.shares:
        point -= share.weight
        if point < 0:
            return share.release
    return channel.shares[-1].release


def load_channel(workspace: Workspace, name: str) -> Channel:
    """A channel by name. Raises `NotFound` with what there is."""
    channel = workspace.store.records.find(Channel, name)
    if channel is None:
        known = [channel.name for channel in list_channels(workspace)]
        raise NotFound("channel", name, known=known, next_step="Promote a release: slipway release promote")
    return channel


def list_channels(workspace: Workspace) -> list[Channel]:
    return workspace.store.records.list(Channel)


def promote(
    workspace: Workspace, release: Release, channel: str = "", *, weight: float = 1.0, force: bool = False, by: str = ""
) -> Channel:
    """Lets a release out. With `weight` below 1 it gets that share and the others keep theirs in proportion.

    Raises `GateClosed` unless the gate is open, `Conflict` for a retired release, both unless `force` is given; a
    promotion that needed force is recorded as forced.
    """
    name = channel or workspace.application
    if not 0 < weight <= 1:
        raise Conflict(f"A share of traffic lies above 0 and at most at 1; {weight:g} does not.")
    retired = workspace.store.records.state(Release, release.id) == "retired"
    if retired and not force:
        raise Conflict(f"{release.label} is retired. Promote another release, or this one with --force.")
    gate = gate_release(workspace, release)
    if not gate.open and not force:
        raise GateClosed(release.label, closed_reasons(gate))
    before = workspace.store.records.find(Channel, name)
    shares = _with_share(before.shares if before else (), release.id, weight)
    forced = retired or not gate.open
    return _save(workspace, name, shares, before=before, by=" ".join(filter(None, [by, "(forced)" * forced])))


def split(workspace: Workspace, name: str, shares: Sequence[tuple[Release, float]], *, by: str = "") -> Channel:
    """Sets the shares of a channel. Every release in it must have passed its gate or be in the channel already."""
    if not shares or not all(0 < weight < math.inf for _, weight in shares):
        raise Conflict("A split names at least one release, each with a weight above 0.")
    if len({release.id for release, _ in shares}) < len(shares):
        raise Conflict("A split names each release once.")
    before = workspace.store.records.find(Channel, name)
    present = {share.release for share in before.shares} if before else set()
    for release, _ in shares:
        gate = gate_release(workspace, release)
        if release.id not in present and not gate.open:
            raise GateClosed(release.label, closed_reasons(gate))
    total = sum(weight for _, weight in shares)
    new = tuple(Share(release=release.id, weight=weight / total) for release, weight in shares)
    return _save(workspace, name, new, before=before, by=by)


def shadow(workspace: Workspace, name: str, release: Release | None) -> Channel:
    """Sends copies of a channel's traffic to a release whose answers nobody sees; None ends it."""
    before = load_channel(workspace, name)
    changed = Channel(
        name=name,
        shares=before.shares,
        shadow=release.id if release else None,
        previous=before.previous,
        changed_at=workspace.now(),
        changed_by=before.changed_by,
    )
    workspace.store.records.save(changed)
    return changed


def roll_back(workspace: Workspace, name: str = "", *, by: str = "") -> Channel:
    """Returns a channel to what it served before its last change."""
    channel = load_channel(workspace, name or workspace.application)
    if not channel.previous:
        raise Conflict(f"Channel '{channel.name}' has served nothing else before; there is nothing to roll back to.")
    return _save(workspace, channel.name, channel.previous, before=channel, by=by)


def retire(workspace: Workspace, release: Release) -> None:
    """Takes a release out of use. Raises `Conflict` while a channel still serves it."""
    serving = [channel.name for channel in list_channels(workspace) if _serves(channel, release.id)]
    if serving:
        raise Conflict(f"{release.label} is served by {', '.join(serving)}. Promote another release there first.")
    workspace.store.records.set_state(Release, release.id, "retired")


def closed_reasons(gate: Gate) -> list[str]:
    return [f"{check.name}: {check.reason}" for check in gate.checks if check.state != "passed"]


def _serves(channel: Channel, release: ReleaseId) -> bool:
    return any(share.release == release for share in channel.shares)


def _with_share(shares: Sequence[Share], release: ReleaseId, weight: float) -> tuple[Share, ...]:
    others = [share for share in shares if share.release != release]
    total = sum(share.weight for share in others)
    if weight == 1 or not others or total == 0:
        return (Share(release=release, weight=1.0),)
    kept = [Share(release=share.release, weight=share.weight / total * (1 - weight)) for share in others]
    return (*kept, Share(release=release, weight=weight))


def _save(workspace: Workspace, name: str, shares: tuple[Share, ...], *, before: Channel | None, by: str) -> Channel:
    if before is not None and before.shares == shares:
        return before
    channel = Channel(
        name=name,
        shares=shares,
        shadow=before.shadow if before else None,
        previous=before.shares if before else (),
        changed_at=workspace.now(),
        changed_by=by,
    )
    records = workspace.store.records
    with workspace.store.transaction():
        records.save(channel, parents=[("release", share.release) for share in shares])
        live = {share.release for other in list_channels(workspace) for share in other.shares}
        for release in list_releases(workspace):
            state = records.state(Release, release.id)
            if release.id in live and state != "live":
                records.set_state(Release, release.id, "live")
            elif release.id not in live and state == "live":
                records.set_state(Release, release.id, "candidate")
    return channel
