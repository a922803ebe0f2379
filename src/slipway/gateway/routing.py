"""From the name that a client calls to the release that answers it."""

from __future__ import annotations

from slipway.domain.errors import ModelNotFound, SlipwayError
from slipway.gateway.call import Call
from slipway.gateway.canaries import Arm
from slipway.gateway.snapshot import Snapshot
from slipway.gateway.targets import Target
from slipway.release.channels import choose_release

SHORTEST_ID = 12


def find_route(call: Call, *, made_by: str = "") -> Target:
    """The target of the model that a call names: a channel (`support`, `support@canary`), a release (`support@14`, or
    its id), or `engine/model` where [server] raw_models allows it. Notes release and channel on the call.

    Within a channel the same person, or else the same session, gets the same release; and what leans on an earlier
    answer goes to the release that made it, whose id begins with `made_by`, as long as the channel has a share for it.
    Raises `ModelNotFound`, `ReleaseUnavailable`.
    """
    snapshot = call.snapshot
    channel = snapshot.channels.get(call.model)
    if channel is not None and channel.shares:
        shares = channel.shares
        chosen = shares[0].release if len(shares) == 1 else choose_release(channel, call.sticky)
        if made_by and len(shares) > 1:
            chosen = next((share.release for share in shares if share.release.startswith(made_by)), chosen)
        call.channel = channel.name
        watch = snapshot.watches.get(channel.name) if channel.canary is not None else None
        if watch is not None:
            if chosen == watch.canary and watch.out:
                chosen = choose_release(channel, call.sticky, without=chosen)
            call.arm = Arm(watch, canary=chosen == watch.canary)
        call.release = chosen
        return snapshot.target(chosen)
    target = _by_name(snapshot, call.model)
    call.release = target.release.id if target.release else ""
    return target


def model_names(snapshot: Snapshot) -> list[str]:
    """Every channel, then every release."""
    return [*sorted(snapshot.channels), *snapshot.by_label]


def _by_name(snapshot: Snapshot, model: str) -> Target:
    release = snapshot.by_label.get(model)
    if release is None and len(model) >= SHORTEST_ID:
        release = next((id for id in snapshot.targets if id.startswith(model)), None)
    if release is not None:
        return snapshot.target(release)
    if "/" in model and snapshot.workspace.settings.server.raw_models:
        try:
            target = snapshot.raw_target(model)
        except SlipwayError:
            target = None  # no such engine: the answer below names what there is
        if target is not None and target.endpoints:
            return target
    next_step = "" if snapshot.channels else "No release is out yet: slipway release promote."
    raise ModelNotFound(model, known=model_names(snapshot), next_step=next_step)
