"""Decisions beyond a policy's rules, about what cannot be read or cannot be edited. In signals, so that a replay decides alike.

Media that no detector reads: defaults.unscanned_media. A text that had to be edited where an edit is impossible (an object's
key): block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from moderation.policy.decide import NOTHING, decide
from moderation.policy.model import Policy
from moderation.text import Channel, Media, Phase, Scope, Turn
from moderation.verdict import FULL_SCORE, Action, Cause, Fired, Key, Mode, Outcome, Severity, Signal, Unknown, Window

MEDIA = "unscanned_media"
UNEDITABLE = "uneditable"
"""These stand where ids of detectors and rules stand."""


def media_window(media: Media) -> Window:
    """One part that was not read."""
    return _window(Key(Channel.USER, media.turn, None, MEDIA, MEDIA, media.kind.upper()))


def uneditable_window(bare: Key) -> Window:
    """A text that had to be edited, and cannot be."""
    return _window(replace(bare, detector=UNEDITABLE, category=UNEDITABLE))


def unread_windows(keys: Iterable[Key], detectors: Iterable[str]) -> list[Window]:
    """A window for each bare key, with every one of these detectors Unknown: what they said does not fit the log."""
    lost = tuple(Unknown(detector, Cause.TOO_LARGE) for detector in sorted(detectors))
    return [Window((Signal(key, 0, 1),), lost) for key in dict.fromkeys(keys)]


def _window(key: Key) -> Window:
    return Window((Signal(key, FULL_SCORE, 1),))


def decide_all(policy: Policy, phase: Phase, scope: Scope, windows: Sequence[Window]) -> Outcome:
    """`decide`, and what is decided beyond the rules. A block of media in history removes them, as for texts."""
    outcome = decide(policy, phase, scope, windows)
    if outcome is NOTHING:  # so there is nothing unread, either: that is a finding
        return outcome
    fired: list[Fired] = []
    for number, window in enumerate(windows):
        key = window.signals[0].key if window.signals else None
        if key is None or key.detector not in (MEDIA, UNEDITABLE):
            continue
        action = Action.BLOCK if key.detector == UNEDITABLE else policy.unscanned_media
        removed = key.detector == MEDIA and action is Action.BLOCK and key.turn is Turn.HISTORY
        if action is not Action.ALLOW:
            did = Action.REDACT if removed else action
            fired.append(
                Fired(key.detector, number, did, Mode.ENFORCE, Severity.MEDIUM, None, (key,), (FULL_SCORE,), False, removed)
            )
    if not fired:
        return outcome
    worst = max(f.action for f in fired)
    return replace(
        outcome,
        action=max(outcome.action, worst),
        would=max(outcome.would, worst),
        fired=(*outcome.fired, *fired),
    )
