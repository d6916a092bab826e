"""What operators import: alert rules and a dashboard that use only what exists, and a paragraph for each alert."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from moderation.metrics import METRICS, NAMED, PROCESS, VOCABULARY, Kind
from moderation.settings import SETTINGS

ROOT = Path(__file__).parent.parent
ALERTS = ROOT / "ops" / "prometheus" / "alerts.yaml"
BOARD = ROOT / "ops" / "grafana" / "moderation.json"
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
RULES: list[dict[str, Any]] = [rule for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = json.loads(BOARD.read_text("utf-8"))["panels"]
QUERIES = [(rule["alert"], rule["expr"]) for rule in RULES] + [
    (panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", ())]

SERIES: dict[str, set[str]] = {name: set() for name in [*(one.shown_name for one in PROCESS), "up"]}
for one in METRICS:
    ends = ("_bucket", "_sum", "_count") if one.kind is Kind.HISTOGRAM else ("",)
    SERIES |= {one.shown_name + end: {*one.labels, *(["le"] if end == "_bucket" else [])} for end in ends}
EVERYWHERE = {"job", "instance"}
_LABELS = r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)"
_WORDS = {"by", "without", "and", "or", "unless", "on", "ignoring", "group_left", "group_right", "bool", "offset"}


def uses(query: str) -> Iterator[tuple[str, set[str], dict[str, str]]]:
    """Metrics of a query, with the labels that it asks of each, and the words that it wants in them."""
    grouped = {label for group in re.findall(_LABELS, query) for label in re.split(r"\s*,\s*", group)}
    bare = re.sub(_LABELS, " ", query)
    bare = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", " ", bare)
    for name, matchers in re.findall(r"\b([a-zA-Z_]\w*)\b(?!\s*\()(?:\{([^}]*)\})?(?![^{]*\})", bare):
        if name in _WORDS:
            continue
        wanted = {label: value for label, _, value in re.findall(r'(\w+)\s*(=~|=|!=|!~)\s*"([^"]*)"', matchers)}
        yield name, grouped | set(wanted), wanted


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[f"{number}-{where}" for number, (where, _) in enumerate(QUERIES)])
def test_queries_ask_for_what_exists(where: str, query: str) -> None:
    found = list(uses(query))
    assert found, "no metric in it"
    grouped = set().union(*(labels for _, labels, _ in found))
    known = set().union(*(SERIES.get(name, set()) for name, _, _ in found))
    assert grouped <= known | EVERYWHERE, f"{where}: no metric of it has the labels {grouped - known - EVERYWHERE}"
    for name, _, wanted in found:
        assert name in SERIES, f"{where}: there is no metric {name}"
        assert set(wanted) <= SERIES[name] | EVERYWHERE, f"{where}: {name} has no label {wanted}"
        for label, value in wanted.items():
            if label in VOCABULARY:
                assert set(value.split("|")) <= VOCABULARY[label], f"{where}: {label} is never {value}"


@pytest.mark.parametrize(("query", "names"), [
    ('sum by (le, x) (rate(moderation_a_bucket{job=~"$job", code="b"}[5m])) / time() > 0.5', [("moderation_a_bucket", {"le", "x", "job", "code"})]),
    ("moderation_a > 0 and time() - moderation_b offset 1d > 60", [("moderation_a", set()), ("moderation_b", set())]),
    ("predict_linear(moderation_a[6h], 3 * 86400) < 0", [("moderation_a", set())]),
    ('moderation_a{b="c"} < ignoring (b) moderation_a{b="d"}', [("moderation_a", {"b"}), ("moderation_a", {"b"})]),
])
def test_how_queries_are_read(query: str, names: list[tuple[str, set[str]]]) -> None:
    assert [(name, labels) for name, labels, _ in uses(query)] == names


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert re.fullmatch(r"[0-9]+[smh]", rule["for"])
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook"}
    assert all(notes.values())
    file, _, anchor = notes["runbook"].partition("#")
    assert (ROOT / file).read_text("utf-8") == PAGE
    assert anchor in anchors()
    assert anchor == rule["alert"].lower()


def anchors() -> list[str]:
    """As GitHub makes them of headings."""
    return [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in re.findall(r"(?m)^#+ (.+)$", PAGE)]


def test_every_paragraph_has_its_alert() -> None:
    names = re.findall(r"(?m)^### (.+)$", PAGE)
    assert names == [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    assert not [anchor for anchor in re.findall(r"\]\(#([^)]+)\)", PAGE) if anchor not in anchors()]


def test_the_page_names_what_exists() -> None:
    known = {metric.shown_name for metric in METRICS}
    assert set(re.findall(r"\bmoderation_[a-z_]+\b", PAGE)) <= known
    assert set(re.findall(r"\bMODERATION_[A-Z_]+\b", PAGE)) <= {setting.env_name for setting in SETTINGS}


def test_the_board_can_be_imported() -> None:
    board = json.loads(BOARD.read_text("utf-8"))
    assert board["title"]
    assert board["uid"]
    assert board["schemaVersion"] >= 38
    assert "id" not in board, "Grafana gives ids"
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource", "job", "instance"]
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == ["Traffic", "Decisions", "Detectors", "Streams", "Decision log", "Upstream", "Process"]
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] in {"row", "timeseries", "stat"}
        if panel["type"] != "row":
            assert panel["targets"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_the_board_shows_what_matters_most() -> None:
    asked = " ".join(name for _, query in QUERIES for name, _, _ in uses(query))
    for what in ("requests", "decisions", "rules", "detector_seconds", "detector_unknown", "hold_back", "detector_queue", "log_queue",
                 "log_batch", "log_sync", "cache", "upstream", "workers", "worker_restarts"):
        assert f"moderation_{what}" in asked
    assert {label for metric in METRICS for label in metric.labels} <= set(VOCABULARY) | NAMED
