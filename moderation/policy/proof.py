"""What a test says of the rule that it stands beside: that it fires, or that it does not. Lint counts it, cases.py checks it."""

from __future__ import annotations

from moderation.policy.model import Rule, Test
from moderation.text import Turn
from moderation.verdict import Action, Mode


def proves(rule: Rule, test: Test) -> bool | None:
    """True where the test holds only if the rule fires, False where it holds only if it does not, None where it tells neither.

    `expect.rules` says it outright. Without it the expected action does: the rule's own shows it at work, a milder one that it
    kept still, and a more severe one is another rule's. A failed detector shows neither.
    """
    if rule.mode is Mode.OFF or rule.then is Action.ALLOW or any(isinstance(one, str) for one in test.given.values()):
        return None
    expect = test.expect
    if expect.rules is not None:
        return rule.id in expect.rules
    removes = rule.then is Action.BLOCK and not rule.in_history_block and test.context.get("turn") == Turn.HISTORY
    own = Action.REDACT if removes else rule.then
    wanted = expect.action if rule.mode is Mode.ENFORCE else expect.would
    if wanted is None:
        return False if expect.action is Action.ALLOW else None
    return True if wanted is own else False if wanted < own else None
