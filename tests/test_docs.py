"""The pages say what the code says: generated ones are up to date, hand-written ones name things that exist."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from moderation import docs
from moderation.cli import VERBS, main
from moderation.cli.verb import Argument, Verb
from moderation.errors import CODES
from moderation.metrics import METRICS
from moderation.policy.faults import CODES as POLICY_CODES
from moderation.settings import SETTINGS
from moderation.text import Channel, Phase
from moderation.verdict import Action

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(("path", "text"), [pytest.param(path, text, id=str(path.relative_to(ROOT)))
                                            for path, text in docs.files(ROOT)])
def test_generated_pages_are_up_to_date(path: Path, text: str) -> None:
    assert path.read_text("utf-8") == text, f"{path.relative_to(ROOT)} is out of date: run `make docs`"


def test_every_row_of_every_table_is_there() -> None:
    pages = {page.name: page.markdown() + page.html() for page in docs.pages()}
    assert not [setting.name for setting in SETTINGS if pages["settings"].count(f"`{setting.env_name}`") != 1]
    assert not [name for name in [*CODES, *POLICY_CODES] if f"| `{name}` |" not in pages["codes"]]
    assert not [metric.name for metric in METRICS if f"<code>{metric.shown_name}</code>" not in pages["metrics"]]
    assert not [verb.words for verb in VERBS if f"## moderation {' '.join(verb.words)}\n" not in pages["cli"]]


def test_a_verbs_page() -> None:
    arguments = (Argument(("FILE",), {"help": "50%% of it"}), Argument(("-n", "--n"), {"metavar": "N", "help": "a|b"}),
                 Argument(("--how",), {"choices": ["a", "b"]}))
    verb = Verb(("do", "it"), "do <it>", arguments, lambda _: 0)
    page = docs.cli_page([verb])
    assert "## moderation do it\n\nDo <it>.\n" in page.markdown()
    assert "| `FILE` | 50% of it |\n| `-n, --n N` | a\\|b |\n| `--how a\\|b` |  |" in page.markdown()
    assert "Do &lt;it&gt;." in page.html()
    assert "<td><code>--how a|b</code></td>" in page.html()


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "base":  # the start page is served at /docs, without a slash at its end
            assert attrs == [("href", "/docs/")]
            return
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", sorted(docs.PAGES.glob("*.html")), ids=lambda path: path.name)
def test_the_site_needs_nothing_from_outside(path: Path) -> None:
    page = Links()
    page.feed(path.read_text("utf-8"))
    assert not page.open
    assert page.found
    assert not [link for link in page.found if not (docs.PAGES / link).is_file()]
    assert "<script" not in path.read_text("utf-8")


def written() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("path", written(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_in_the_pages_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|mailto:|#", link)]
    assert not [link for link in links if not (path.parent / link).exists()]


def test_makefile_words_in_the_readme_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text("utf-8")))
    for page in written():
        assert set(re.findall(r"`make ([a-z]+)", page.read_text("utf-8"))) <= targets, page.name


def test_settings_named_in_the_pages_exist() -> None:
    flags = {setting.flag_name for setting in SETTINGS}
    variables = {setting.env_name for setting in SETTINGS}
    for page in [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "Dockerfile"]:
        text = page.read_text("utf-8")
        assert set(re.findall(r"\bMODERATION_[A-Z_]+\b", text)) <= variables, page.name
        commands = re.findall(r"(?m)^moderation ([a-z]+(?: [a-z]+)?)", text)
        known = {" ".join(verb.words) for verb in VERBS}
        assert all(command in known or command.split()[0] in known for command in commands), page.name
        for line in re.findall(r"(?m)^.*moderation serve.*$", text):
            assert set(re.findall(r"(?<=\s)--[a-z-]+", line.split("moderation serve", 1)[1])) <= flags, line


def test_the_glossary_has_the_words_that_the_code_uses() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = re.findall(r"(?m)^\*\*([^*]+)\*\*", text)
    assert terms == sorted(terms, key=str.lower), "in alphabetical order"
    wanted = {"segment", "sentence", "window", "tape", "span", "finding", "unknown", "signal", "decision", "outcome", "leaf",
              "checkpoint", "log file", "policy", "rule", "phase", "channel", "turn", "origin", "scope", "tenant", "route",
              "region", "hold", "reach", "degraded", "pseudonym", "monitor", "detector", "dialect", "label", "upstream",
              "severity", "commitment"}
    missing = wanted - {term.lower() for term in terms}
    assert not missing
    for word in [*Phase, *Channel, *(action.word for action in Action)]:
        assert f"`{word}`" in text, f"the glossary does not say what {word} is"


def test_the_readmes_policy_is_a_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"```yaml\n(format: 1\n.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert found
    assert found[1].count("\n") <= 12, "ten lines or so"
    path = tmp_path / "first.yaml"
    path.write_text(found[1], "utf-8")
    for verb in ["check", "test"]:
        assert main(["policy", verb, str(path)]) == 0, capsys.readouterr()
