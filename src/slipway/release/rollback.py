"""Takes a canary out of its channel and tells so: in the channel, in the audit log and as a finding."""

from __future__ import annotations

from slipway.access.audit import record_event
from slipway.domain.errors import Conflict
from slipway.domain.feedback import Finding, Route
from slipway.domain.ids import ReleaseId, new_id
from slipway.domain.release import Channel, Release
from slipway.release.canary import Verdict
from slipway.release.channels import take_canary_out
from slipway.workspace import Workspace

ACTOR = "slipway"
UNKNOWN = Verdict(
    reason="another worker found it and ended before it wrote down why",
    measure="unknown",
    canary=0.0,
    others=0.0,
    requests=0,
)


def roll_back_canary(workspace: Workspace, name: str, canary: ReleaseId, verdict: Verdict) -> Channel | None:
    """Rolls a canary back, once: None when it is not the channel's canary any more. All of it happens or nothing.

    Raises `Conflict` when no other release is left to serve.
    """
    store = workspace.store
    with store.transaction():
        channel = store.records.find(Channel, name)
        if channel is None or channel.canary != canary:
            return None
        if not channel.stable:
            raise Conflict(f"Channel '{name}' serves nothing but its canary. Promote another release there.")
        changed = take_canary_out(workspace, channel, by=f"{ACTOR} (rolled back)")
        release = store.records.find(Release, canary)
        label = release.label if release is not None else canary[:12]
        facts = {
            "channel": name,
            "canary": label,
            "measure": verdict.measure,
            "canary_value": f"{verdict.canary:.4g}",
            "others_value": f"{verdict.others:.4g}",
            "requests": str(verdict.requests),
        }
        record_event(store, ACTOR, "release.roll_back", name, detail=facts, now=workspace.now())
        store.records.save(
            Finding(
                id=new_id(),
                kind="failure",
                title=f"{label} was rolled back on {name}",
                detail=f"The canary lost its traffic by the channel's rule: {verdict.reason}.",
                route=_route(workspace, release, changed),
                release=canary,
                volume=max(1, verdict.requests),
                created_at=workspace.now(),
                facts=facts,
            ),
            state="open",
        )
    return changed


def _route(workspace: Workspace, release: Release | None, channel: Channel) -> Route:
    """Who has to look: whose part differs from the release that serves now."""
    serving = workspace.store.records.find(Release, channel.shares[0].release)
    if release is None or serving is None:
        return "prompt"
    if release.index != serving.index:
        return "knowledge"
    if release.guardrails != serving.guardrails:
        return "guard"
    return "prompt"
