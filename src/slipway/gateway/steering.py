"""What moves traffic by itself: canaries that spoil are rolled back, adaptive splits follow what was learnt."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import monotonic

import numpy as np

from slipway.domain.errors import SlipwayError
from slipway.domain.release import Channel
from slipway.gateway.canaries import CanaryWatch
from slipway.release.adaptive import adapt
from slipway.release.canary import judge_quality
from slipway.release.rollback import UNKNOWN, roll_back_canary
from slipway.watch.arms import score_arms
from slipway.workspace import Workspace

log = logging.getLogger("slipway.gateway")


class Steering:
    """Runs in the thread that keeps the snapshot fresh. Every worker records roll-backs; the first one of a server
    also reads quality from the store, every `every_s` seconds, and moves adaptive splits."""

    def __init__(self, *, first: bool, every_s: float = 10.0) -> None:
        self._first = first
        self._every_s = every_s
        self._next_at = 0.0
        self._rng = np.random.default_rng()

    def steer(self, workspace: Workspace, channels: Mapping[str, Channel], watches: Mapping[str, CanaryWatch]) -> bool:
        """Whether a channel was changed. Raises `StoreError`; what could not be written is tried again."""
        changed = False
        if self._first and monotonic() >= self._next_at:
            self._next_at = monotonic() + self._every_s
            for channel in channels.values():
                changed = self._learn(workspace, channel, watches.get(channel.name)) or changed
        for watch in watches.values():
            if watch.to_be_recorded:
                changed = self._record(workspace, watch) or changed
        return changed

    def _learn(self, workspace: Workspace, channel: Channel, watch: CanaryWatch | None) -> bool:
        rule = channel.rule
        if watch is not None and not watch.out and rule is not None and rule.quality_drop is not None:
            since = channel.canary_since or channel.changed_at
            scores = score_arms(workspace, channel, rule.metric, since=since)
            others = [share.release for share in channel.stable]
            verdict = judge_quality(rule, scores, watch.canary, others)
            if verdict is not None:
                watch.take_out(verdict)
                return False
        if channel.adaptive is not None and len(channel.shares) > 1:
            scores = score_arms(workspace, channel, channel.adaptive.metric, since=channel.changed_at)
            return adapt(workspace, channel.name, scores, rng=self._rng) is not None
        return False

    def _record(self, workspace: Workspace, watch: CanaryWatch) -> bool:
        try:
            changed = roll_back_canary(workspace, watch.channel, watch.canary, watch.verdict or UNKNOWN)
        except SlipwayError as wrong:
            log.error("the roll-back of %s waits to be written down: %s", watch.channel, wrong)
            raise
        return changed is not None
