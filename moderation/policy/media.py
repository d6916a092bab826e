"""Media that no detector reads, as signals, and the one decision about them: defaults.unscanned_media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from moderation.policy.decide import decide
from moderation.policy.model import Policy
from moderation.text import Channel, Media, Phase, Scope, Turn
from moderation.verdict import FULL_SCORE, Action, Fired, Key, Mode, Outcome, Severity, Signal, Window

MEDIA = "unscanned_media"
"""Stands where a detector's and a rule's id stand; no detector or rule of a policy may be called so."""


def media_window(media: Media) -> Window:
    """One part that was not read, as the window that decide_all reads."""
    channel = Channel.USER
    return Window((Signal(Key(channel, media.turn, None, MEDIA, MEDIA, media.kind.upper()), FULL_SCORE, 1),))


def decide_all(policy: Policy, phase: Phase, scope: Scope, windows: Sequence[Window]) -> Outcome:
    """`decide`, and what the policy says of media. A block of media in history removes them, as for texts."""
    outcome = decide(policy, phase, scope, windows)
    action = policy.unscanned_media
    if action is Action.ALLOW:
        return outcome
    fired: list[Fired] = []
    for number, window in enumerate(windows):
        key = window.signals[0].key if window.signals else None
        if key is None or key.detector != MEDIA:
            continue
        removed = action is Action.BLOCK and key.turn is Turn.HISTORY
        did = Action.REDACT if removed else action
        fired.append(
            Fired(MEDIA, number, did, Mode.ENFORCE, Severity.MEDIUM, None, (key,), (FULL_SCORE,), False, removed)
        )
    if not fired:
        return outcome
    worst = max(f.action for f in fired)
    message = outcome.message if outcome.action is Action.BLOCK else None
    return replace(
        outcome,
        action=max(outcome.action, worst),
        would=max(outcome.would, worst),
        fired=(*outcome.fired, *fired),
        message=message,
    )
