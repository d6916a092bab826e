"""The figures are those of the table, and no label holds what a caller chose."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from moderation.metrics import METRICS, NAMED, OTHER, VOCABULARY, Kind, Metric, Metrics
from moderation.text import Phase
from moderation.verdict import Action, Fired, Mode, Outcome, Severity


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(metrics.text().decode()) for sample in family.samples}


def use(metrics: Metrics, metric: Metric, *labels: str) -> None:
    match metric.kind:
        case Kind.COUNTER:
            metrics.add(metric.name, *labels)
        case Kind.GAUGE:
            metrics.set(metric.name, 1, *labels)
        case Kind.HISTOGRAM:
            metrics.observe(metric.name, 0.1, *labels)


def test_every_metric_of_the_table_is_told_under_its_name() -> None:
    metrics = Metrics()
    for metric in METRICS:
        use(metrics, metric, *(OTHER for _ in metric.labels))
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    for metric in METRICS:
        family = families[metric.shown_name.removesuffix("_total")]
        assert family.type == metric.kind
        assert family.documentation == metric.help
    assert not any(name.endswith("_created") for name in families)
    assert {label for metric in METRICS for label in metric.labels} <= set(VOCABULARY) | NAMED


def test_values_add_up() -> None:
    metrics = Metrics()
    metrics.add("decisions", "input", "block")
    metrics.add("decisions", "input", "block", amount=2)
    metrics.add("in_flight", amount=3)
    metrics.add("in_flight", amount=-1)
    metrics.observe("log_sync_seconds", 0.002)
    got = samples(metrics)
    assert got["moderation_decisions_total", (("action", "block"), ("phase", "input"))] == 3
    assert got["moderation_in_flight", ()] == 2
    assert got["moderation_log_sync_seconds_count", ()] == 1
    assert got["moderation_log_sync_seconds_bucket", (("le", "0.0025"),)] == 1
    assert got["moderation_log_sync_seconds_bucket", (("le", "0.001"),)] == 0


CANARY = "canary-7f3a"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_nobody_listed_is_other(metric: Metric) -> None:
    metrics = Metrics()
    for place in range(len(metric.labels)):
        use(metrics, metric, *(CANARY if place == index else OTHER for index in range(len(metric.labels))))
    assert CANARY not in metrics.text().decode()


@settings(max_examples=30)
@given(st.lists(st.text(max_size=20), max_size=30))
def test_callers_cannot_swell_the_series(names: list[str]) -> None:
    metrics = Metrics()
    metrics.know("rule", ["mask"])
    for name in names:
        metrics.add("rules", name, "input", "enforce", "redact")
    shown = {dict(labels)["rule"] for (sample, labels), _ in samples(metrics).items() if sample == "moderation_rules_total"}
    assert shown <= {"mask", OTHER}
    assert len(metrics._series["rules"].shown) <= 1


def test_known_names_are_shown_from_then_on() -> None:
    metrics = Metrics()
    metrics.add("rules", "mask", "input", "enforce", "redact")
    metrics.know("rule", ["mask"])
    metrics.add("rules", "mask", "input", "enforce", "redact")
    shown = {dict(labels)["rule"]: value for (name, labels), value in samples(metrics).items() if "_rules_" in name}
    assert shown == {OTHER: 1, "mask": 1}


@pytest.mark.parametrize("versions", [["a1", "b2", "a1"], ["a1", "a1 b2", "b2 c3", "c3"], ["a1 a1", ""]])
def test_the_policies_that_decide_are_active_and_no_others(versions: list[str]) -> None:
    metrics = Metrics()
    metrics.know("policy", ["default"])
    metrics.know("hash", ["a1", "b2", "c3"])
    for now in versions:
        metrics.only("policy_active", [("default", version) for version in now.split()])
        shown = {labels: value for (name, labels), value in samples(metrics).items() if name == "moderation_policy_active"}
        assert shown == {(("hash", version), ("policy", "default")): 1 for version in now.split()}


def test_two_of_them_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.add("in_flight")
    assert samples(first)["moderation_in_flight", ()] == 1
    assert samples(second)["moderation_in_flight", ()] == 0


def test_a_decision_counts_each_rule_once() -> None:
    def fired(rule: str, window: int, mode: Mode) -> Fired:
        return Fired(rule, window, Action.REDACT, mode, Severity.LOW, None, (), (), False, False)

    metrics = Metrics()
    metrics.know("rule", ["mask", "watch"])
    rules = (fired("mask", 0, Mode.ENFORCE), fired("mask", 1, Mode.ENFORCE), fired("watch", 0, Mode.MONITOR))
    metrics.decided(Phase.INPUT, Outcome(Action.REDACT, Action.BLOCK, rules, (), True, None))
    metrics.decided(Phase.INPUT, Outcome(Action.ALLOW, Action.ALLOW, (), (), False, None))
    metrics.refused("not_ready")
    counted = {(name.removeprefix("moderation_"), *(value for _, value in labels)): value for (name, labels), value
               in samples(metrics).items() if name.startswith("moderation_") and name.endswith("_total") and value}
    assert counted == {
        ("decisions_total", "redact", "input"): 1, ("decisions_total", "allow", "input"): 1,
        ("would_total", "block", "input"): 1, ("would_total", "allow", "input"): 1, ("degraded_total", "input"): 1,
        ("rules_total", "redact", "enforce", "input", "mask"): 1, ("rules_total", "redact", "monitor", "input", "watch"): 1,
        ("refused_total", "not_ready"): 1}


def test_wrong_use_is_told() -> None:
    metrics = Metrics()
    with pytest.raises(TypeError, match="takes the labels"):
        metrics.add("decisions", "input")
    with pytest.raises(TypeError, match="is a histogram"):
        metrics.add("added_seconds")
    with pytest.raises(TypeError, match="no gauge"):
        metrics.set("requests", 1, "other", "answered")
    with pytest.raises(TypeError, match="no histogram"):
        metrics.observe("in_flight", 1)
    with pytest.raises(KeyError):
        metrics.add("nothing_of_the_kind")
