"""Channels: which release answers whom; promote, split, roll back."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from slipway.domain.errors import Conflict, GateClosed, NotFound
from slipway.domain.ids import ReleaseId
from slipway.domain.release import Channel, Gate, Release, Share
from slipway.domain.routing import AdaptiveSplit, RollbackRule
from slipway.release.gate import gate_release
from slipway.release.parts import list_releases
from slipway.workspace import Workspace

CANARY = "canary"


def choose_release(channel: Channel, key: str, *, without: ReleaseId | None = None) -> ReleaseId:
    """The release that answers this caller: the same key always gets the same one while the shares stand.

    `key` is the end user, the session, or the request id where neither is known. When one share changes and the others
    keep their proportions, nobody moves between those; when a release goes, only whom it had move. `without` leaves one
    release out. Method: rendezvous hashing (D. Thaler, C. Ravishankar, IEEE/ACM ToN 6, 1998), with weights as P.
    Efraimidis and P. Spirakis draw by (Inf. Process. Lett. 97, 2006).
    """
    shares = channel.shares
    if without is not None:
        shares = tuple(share for share in shares if share.release != without) or shares
    return min(shares, key=lambda share: _lateness(channel.name, share, key)).release


def _lateness(channel: str, share: Share, key: str) -> float:
    """When this release would come for the caller: an exponential time at the rate of its share."""
    digest = hashlib.sha256(f"{channel}\0{share.release}\0{key}".encode()).digest()
    chance = (int.from_bytes(digest[:8], "big") + 1) / 2**64
    return -math.log(chance) / share.weight if share.weight > 0 else math.inf


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
    """Lets a release out. With `weight` below 1 it gets that share and the others keep theirs in proportion: it is
    then the channel's canary, which the channel's rule may take out again.

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
    by = " ".join(filter(None, [by, "(forced)" * forced]))
    # A release that served already is no newcomer because its share changes.
    served = before is not None and any(share.release == release.id for share in before.shares)
    canary = before.canary if before is not None and served else release.id
    return _save(workspace, name, shares, before=before, by=by, canary=canary)


def split(workspace: Workspace, name: str, shares: Sequence[tuple[Release, float]], *, by: str = "") -> Channel:
    """Sets the shares of a channel. Every release in it must have passed its gate or be in the channel already.

    A release that is new beside ones that served before is the canary; else the canary stays who it was.
    """
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
    added = [release.id for release, _ in shares if release.id not in present]
    canary = before.canary if before is not None else None
    if added and len(added) < len(shares):
        canary = added[-1]
    return _save(workspace, name, new, before=before, by=by, canary=canary)


def shadow(workspace: Workspace, name: str, release: Release | None, *, share: float = 1.0) -> Channel:
    """Sends copies of a share of a channel's traffic to a release whose answers nobody sees; None ends it."""
    if not 0 < share <= 1:
        raise Conflict(f"The share that a shadow sees lies above 0 and at most at 1; {share:g} does not.")
    before = load_channel(workspace, name)
    return _change(workspace, replace(before, shadow=release.id if release else None, shadow_share=share))


def set_rule(workspace: Workspace, name: str, rule: RollbackRule | None) -> Channel:
    """Sets when a channel's canary is taken out by itself; None is never. Raises `Conflict` for bounds that cannot
    be."""
    if rule is not None:
        rates = {"error rate": rule.error_rate, "quality drop": rule.quality_drop}
        for what, rate in rates.items():
            if rate is not None and not 0 <= rate < 1:
                raise Conflict(f"The {what} of a rule lies from 0 to below 1; {rate:g} does not.")
        if rule.latency_ratio is not None and not 1 <= rule.latency_ratio < math.inf:
            raise Conflict(f"The latency ratio of a rule is at least 1; {rule.latency_ratio:g} is not.")
        if rule.fewest < 1:
            raise Conflict(f"A rule needs at least one request to judge by; {rule.fewest} is none.")
    return _change(workspace, replace(load_channel(workspace, name), rule=rule))


def set_adaptive(workspace: Workspace, name: str, adaptive: AdaptiveSplit | None) -> Channel:
    """Lets the shares of a channel follow a quality metric; None leaves them as they stand now."""
    channel = load_channel(workspace, name)
    if adaptive is not None and not 0 < adaptive.floor * len(channel.shares) < 1:
        raise Conflict(
            f"A floor of {adaptive.floor:g} for each of {len(channel.shares)} releases leaves nothing to adapt: "
            f"choose one above 0 and below {1 / len(channel.shares):.2g}."
        )
    return _change(workspace, replace(channel, adaptive=adaptive, posteriors=()))


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


def _change(workspace: Workspace, channel: Channel) -> Channel:
    """Saves a channel whose shares stay."""
    changed = replace(channel, changed_at=workspace.now())
    workspace.store.records.save(changed, parents=[("release", share.release) for share in changed.shares])
    return changed


def closed_reasons(gate: Gate) -> list[str]:
    return [f"{check.name}: {check.reason}" for check in gate.checks if check.state != "passed"]


def describe_rule(rule: RollbackRule | None) -> str:
    """A rule in a sentence."""
    if rule is None:
        return "it is never rolled back by itself."
    bounds = [
        ("it fails above {:.0%} and more often than the others", rule.error_rate),
        ("its 95th percentile is above {:g} times theirs", rule.latency_ratio),
        ("its mean " + rule.metric + " is more than {:g} below theirs", rule.quality_drop),
    ]
    said = [text.format(bound) for text, bound in bounds if bound is not None]
    if not said:
        return "no bound is set, so it is never rolled back by itself."
    return f"it is rolled back when {', or '.join(said)}, after at least {rule.fewest} requests."


def describe_steering(channel: Channel, labels: Mapping[ReleaseId, str]) -> list[str]:
    """What moves a channel's traffic by itself and who sees copies of it, in sentences."""
    found = []
    if channel.canary is not None:
        found.append(f"{labels.get(channel.canary, 'A release')} is the canary: {describe_rule(channel.rule)}")
    if channel.adaptive is not None:
        found.append(f"The shares follow {channel.adaptive.metric}, none below {channel.adaptive.floor:.0%}.")
    if channel.shadow is not None:
        name = labels.get(channel.shadow, channel.shadow[:12])
        found.append(f"{name} sees copies of {channel.shadow_share:.0%} of the requests.")
    return found


def channel_releases(channel: Channel) -> set[ReleaseId]:
    """Every release that gets some of a channel's traffic, copies too."""
    found = {share.release for share in channel.shares}
    return found | {channel.shadow} if channel.shadow is not None else found


def _serves(channel: Channel, release: ReleaseId) -> bool:
    return any(share.release == release for share in channel.shares)


def _with_share(shares: Sequence[Share], release: ReleaseId, weight: float) -> tuple[Share, ...]:
    others = [share for share in shares if share.release != release]
    total = sum(share.weight for share in others)
    if weight == 1 or not others or total == 0:
        return (Share(release=release, weight=1.0),)
    kept = [Share(release=share.release, weight=share.weight / total * (1 - weight)) for share in others]
    return (*kept, Share(release=release, weight=weight))


def take_canary_out(workspace: Workspace, channel: Channel, *, by: str) -> Channel:
    """Leaves the canary's share to the releases beside it. What `roll_back` returns to is never the canary."""
    total = sum(share.weight for share in channel.stable)
    shares = tuple(replace(share, weight=share.weight / total) for share in channel.stable)
    before = () if any(share.release == channel.canary for share in channel.previous) else channel.previous
    return _save(workspace, channel.name, shares, before=channel, by=by, previous=before)


def _save(
    workspace: Workspace,
    name: str,
    shares: tuple[Share, ...],
    *,
    before: Channel | None,
    by: str,
    canary: ReleaseId | None = None,
    previous: tuple[Share, ...] | None = None,
) -> Channel:
    if before is not None and before.shares == shares:
        return before
    now = workspace.now()
    if len(shares) < 2 or all(share.release != canary for share in shares):
        canary = None
    since = before.canary_since if before is not None and before.canary == canary else now
    channel = replace(
        before or Channel(name=name, shares=(), changed_at=now),
        shares=shares,
        previous=previous if previous is not None else before.shares if before else (),
        changed_at=now,
        changed_by=by,
        canary=canary,
        canary_since=since if canary is not None else None,
        posteriors=(),
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
