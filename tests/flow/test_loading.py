"""Loading a policy as a sidecar does: what is taken, what is not, and what is said then."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from moderation.detect.api import Detector, Scan
from moderation.detect.build import build
from moderation.detect.run import Runner
from moderation.flow.loading import FileLoader
from moderation.flow.policies import Loaded, PolicyRejected
from moderation.metrics import Metrics
from moderation.policy.model import Policy

SOURCE = """\
format: 1
policy: {id: p}
detectors:
  mail: {kind: pii, entities: [EMAIL_ADDRESS]}
  terms: {kind: words, lists: l}
word_lists: {l: {file: lists/l.txt}}
rules:
  - id: mail
    phases: [input]
    when: {detector: [mail, terms]}
    then: redact
    tests:
      - {name: one, phase: input, text: "to b@y.com", expect: {action: redact, text: "to [removed: email]"}}
      - {name: none, phase: input, text: "to you", expect: {action: allow}}
      - {name: given, phase: input, given: {mail: {personal_data: high}}, expect: {action: redact}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "p.yaml"
    (path.parent / "lists").mkdir(parents=True)
    (path.parent / "lists" / "l.txt").write_text("heron\n", encoding="utf-8")
    path.write_text(SOURCE, encoding="utf-8")
    return path


def load(file: Path, *, tested: bool = True) -> Loaded:
    loader = FileLoader(1 << 20, Metrics(), tested=tested)
    try:
        return loader(str(file), 1)
    finally:
        loader.close()


def refused(file: Path) -> PolicyRejected:
    with pytest.raises(PolicyRejected) as caught:
        load(file)
    assert str(caught.value) == "\n".join(caught.value.lines)
    assert len(caught.value.digest) == 64
    return caught.value


def test_a_good_policy_is_taken_with_its_files(file: Path) -> None:
    loaded = load(file)
    assert loaded.active.policy.word_lists["l"].words == ("heron",)
    assert [path.name for path in loaded.sources] == ["p.yaml", "l.txt"]


def test_a_policy_can_be_loaded_where_an_event_loop_runs(file: Path) -> None:
    async def go() -> Loaded:
        return load(file)

    assert asyncio.run(go()).active.policy.ref.id == "p"


FAILING = [
    ("expect: {action: allow}", "expect: {action: redact}", 14, "action: expected redact, got allow."),
    ("[removed: email]", "b@y.com", 13, "text: not what was expected."),
    ("mail: {personal_data: high}", "mail: {}", 15, "action: expected redact, got allow."),
]


@pytest.mark.parametrize(("old", "new", "line", "problem"), FAILING)
def test_a_policy_of_which_a_test_fails_is_not_taken(old: str, new: str, line: int, problem: str, file: Path) -> None:
    file.write_text(SOURCE.replace(old, new), encoding="utf-8")
    fault = refused(file)
    assert (fault.code, fault.place) == ("QP304", f"p.yaml:{line}:9")
    assert fault.lines[0].startswith(f"{file}:{line}:9 error QP304 the test '")
    assert fault.lines[0].endswith(f"' of the rule 'mail' fails: {problem}")
    assert not [text for text in fault.lines if "b@y" in text]
    assert load(file, tested=False).active.policy.ref.id == "p"


class Slow:
    """A detector that takes longer than the policy gives it."""

    behind = 0
    version = "1"

    reach = 100

    def __init__(self, inner: Detector, event: threading.Event) -> None:
        self.id = inner.id
        self._inner = inner
        self._event = event

    def scan(self, text: str, start: int, final: bool) -> Scan:
        self._event.wait(0.05)
        return self._inner.scan(text, start, final)  # type: ignore[union-attr]


def test_a_busy_machine_fails_no_test(file: Path) -> None:
    never = threading.Event()

    def make(policy: Policy) -> Mapping[str, Detector]:
        return {name: Slow(one, never) for name, one in build(policy).items()}

    file.write_text(SOURCE.replace("entities: [EMAIL_ADDRESS]}", "entities: [EMAIL_ADDRESS], timeout: 1ms}"), encoding="utf-8")
    metrics = Metrics()
    loader = FileLoader(1 << 20, metrics, make)
    try:
        assert loader(str(file), 1).active.policy.detectors["mail"].timeout_ms == 1
    finally:
        loader.close()
    assert 'detector_seconds_count{' not in metrics.text().decode()


def test_a_policy_that_nobody_keeps_leaves_no_threads(file: Path) -> None:
    """A request keeps its policy with the threads of its detectors; after the last one they leave."""
    loader = FileLoader(1 << 20, Metrics(), lambda policy: {name: Slow(one, threading.Event()) for name, one in build(policy).items()},
                        tested=False)

    def threads() -> set[threading.Thread]:
        return {one for one in threading.enumerate() if one.name == "detector"}

    before = threads()
    old = loader(str(file), 1).active
    asyncio.run(old.runner.examine(["hello"], frozenset({"mail", "terms"}), "t", 1000))
    new = loader(str(file), 2).active
    asyncio.run(new.runner.examine(["other"], frozenset({"mail", "terms"}), "t", 1000))
    olds = threads() - before
    assert len(olds) == 4
    del old
    gc.collect()
    for one in olds:
        one.join(0.1)
    assert len(threads() - before) == 2
    assert loader.load == (0, 0)
    loader.close()
    assert threads() <= before


@pytest.mark.parametrize("broken", ["gone", "a folder"])
def test_a_file_that_cannot_be_read(broken: str, file: Path) -> None:
    file.unlink()
    if broken == "a folder":
        file.mkdir()
    fault = refused(file)
    why = "No such file or directory" if broken == "gone" else "Is a directory"
    assert fault.lines == (f"{file}:1:1 error QP000 the file cannot be read: {why}.",)
    assert (fault.code, fault.place) == ("QP000", "p.yaml:1:1")


LINKS = [
    ("lists/real.txt", True, "a link within"),
    ("../etc/lists/real.txt", True, "out and in again"),
    ("../outside.txt", False, "a file outside"),
    ("lists/l.txt", False, "in a circle"),
    ("lists", False, "a folder"),
    ("gone.txt", False, "to nothing"),
]


@pytest.mark.parametrize(("target", "good", "note"), LINKS)
def test_a_list_stays_in_the_folder_of_its_policy(target: str, good: bool, note: str, file: Path) -> None:
    link = file.parent / "lists" / "l.txt"
    link.rename(file.parent / "lists" / "real.txt")
    (file.parent.parent / "outside.txt").write_text("heron\n", encoding="utf-8")
    link.symlink_to(file.parent / target)
    if good:
        assert load(file).active.policy.word_lists["l"].words == ("heron",), note
        return
    fault = refused(file)
    assert (fault.code, fault.place, len(fault.lines)) == ("QP019", "p.yaml:6:24", 1), note
    assert ("leads out of the policy's folder" in fault.lines[0]) is (target == "../outside.txt")


def test_a_folder_may_be_a_link_itself(file: Path) -> None:
    # As a ConfigMap is mounted: every file a link into a folder beside, which is swapped.
    folder = file.parent
    hidden = folder / "..2026_11_24"
    hidden.mkdir()
    for name in ("p.yaml", "lists"):
        (folder / name).rename(hidden / name)
        (folder / name).symlink_to(Path("..data") / name)
    (folder / "..data").symlink_to("..2026_11_24")
    other = folder.parent / "link"
    other.symlink_to(folder)
    assert load(other / "p.yaml").active.policy.ref.id == "p"


def test_a_list_that_is_not_utf_8_is_told_alone_and_where_it_lies(file: Path) -> None:
    (file.parent / "lists" / "l.txt").write_bytes(b"heron\n\xff\n")
    assert refused(file).lines == (f"{file.parent}/lists/l.txt:2:1 error QP002 not UTF-8. Save the file as UTF-8.",)


def test_all_faults_are_told(file: Path) -> None:
    file.write_text(SOURCE.replace("[input]", "[inptu]").replace("then: redact", "then: redatc"), encoding="utf-8")
    codes: Sequence[str] = [line.split(" ")[2] for line in refused(file).lines]
    assert codes == ["QP001", "QP001"]


async def _ask(runner: Runner) -> None:
    await runner.examine(["to b@y.com " * 1000], frozenset({"mail", "terms"}), "t", 400)  # it is long, so in threads


def test_a_policy_that_is_replaced_goes_with_its_last_request(file: Path) -> None:
    loader = FileLoader(0, Metrics())
    first = loader(str(file), 1).active
    kept = [weakref.ref(part) for part in (first.runner, *first.runner._locals.values())]

    asyncio.run(_ask(first.runner))
    gc.disable()  # what waits for the collector waits for hours: a sidecar has it look at what is old seldom
    try:
        second = loader(str(file), 2).active
        assert all(ref() is not None for ref in kept), "a request goes by it still"
        del first
        assert [ref() for ref in kept] == [None] * 3
    finally:
        gc.enable()
    assert loader.load == (0, 0)
    assert second.runner.has("mail")
    loader.close()
