"""Policies in force: what the log cannot record waits for it, and says so; those that decide are told, and no others."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from moderation.audit.bundle import Bundles
from moderation.audit.leaf import Body
from moderation.errors import LogError, UsageError
from moderation.flow.loading import FileLoader
from moderation.flow.policies import Loaded, Policies
from moderation.metrics import Metrics
from moderation.oplog import OperationalLog
from tests.test_metrics import samples

POLICY = """\
format: 1
policy: {{id: {name}, title: For tests, default_language: en, languages: [en]}}
detectors:
  birds: {{kind: words, categories: [birds], lists: [birds], levels: {{high: 1.0}}}}
word_lists:
  birds: {{words: [{word}]}}
messages:
  refused: {{en: "No birds."}}
rules:
  - id: no-birds
    title: Birds stay out
    severity: low
    phases: [input]
    when: {{category: birds}}
    at_least: high
    then: block
    message: refused
    tests:
      - {{name: a bird, phase: input, text: "a {word}", expect: {{action: block}}}}
      - {{name: none, phase: input, text: "hello", expect: {{action: allow}}}}
"""


class Paper:
    """A log that keeps what it is told, or is down."""

    def __init__(self) -> None:
        self.bodies: list[Body] = []
        self.latched: LogError | None = None
        self.asked = 0

    async def append_all(self, bodies: Sequence[Body], *, strict: bool) -> object:
        self.asked += 1
        assert strict
        if self.latched is not None:
            raise LogError(str(self.latched))
        self.bodies.extend(bodies)
        return None


class Room:
    """Policies over files of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.metrics = folder, Paper(), Metrics()
        self.said: list[str] = []
        self.loads = 0
        self._loader = FileLoader(1 << 20, self.metrics)
        self.policies = Policies(self, self.log, Bundles(folder / "data"), self.metrics, "1", OperationalLog(self.said.append))

    def write(self, name: str, word: str) -> str:
        path = self.folder / name
        path.write_text(POLICY.format(name=path.stem, word=word))
        return str(path)

    def __call__(self, path: str | None, generation: int) -> Loaded:
        self.loads += 1
        return self._loader(path, generation)

    def kept(self, path: str | None, generation: int, files: Mapping[str, bytes]) -> Loaded:
        return self._loader.kept(path, generation, files)

    def active(self) -> set[tuple[str, str]]:
        shown = [dict(labels) for name, labels in samples(self.metrics) if name == "moderation_policy_active"]
        return {(one["policy"], one["hash"]) for one in shown}

    def reloads(self, result: str) -> float:
        return samples(self.metrics).get(("moderation_policy_reloads_total", (("result", result),)), 0)


async def ticks(room: Room, count: int = 12) -> None:
    """Let the watcher look so many times."""
    for _ in range(count):
        await asyncio.sleep(0.005)


def test_a_policy_edited_while_the_log_is_down_is_taken_when_it_is_up(tmp_path: Path) -> None:
    async def go() -> None:
        room = Room(tmp_path)
        path = room.write("p.yaml", "heron")
        await room.policies.start([path])
        old = room.policies.active(path).policy.ref
        watching = asyncio.create_task(room.policies.watch(0.002, room.policies.reload))
        await ticks(room)
        room.log.latched = LogError("the disk is full")
        room.write("p.yaml", "stork")
        await ticks(room)
        assert room.policies.active(path).policy.ref == old
        (fault,) = room.policies.faults.values()
        assert "waits" in fault
        assert "the disk is full" in fault
        loads, asked, said = room.loads, room.log.asked, len(room.said)
        await ticks(room)
        # Nothing is asked of a log that is down: each attempt would count as a leaf lost.
        assert (room.loads, room.log.asked, len(room.said), room.reloads("rejected")) == (loads, asked, said, 1)
        room.log.latched = None
        await ticks(room)
        new = room.policies.active(path).policy.ref
        assert new != old
        assert room.policies.faults == {}
        assert room.active() == {("p", new.hash)}
        assert room.reloads("ok") == 1
        assert [body["previous"] for body in room.log.bodies] == [None, old.hash]
        watching.cancel()

    asyncio.run(go())


@pytest.mark.parametrize("back", ["heron", "stork"])
def test_the_file_may_change_again_while_it_waits(tmp_path: Path, back: str) -> None:
    async def go() -> None:
        room = Room(tmp_path)
        path = room.write("p.yaml", "heron")
        await room.policies.start([path])
        room.log.latched = LogError("the disk is full")
        room.write("p.yaml", "egret")
        await room.policies.reload()
        room.write("p.yaml", back)
        await room.policies.reload()
        room.log.latched = None
        await room.policies.reload()
        assert room.policies.faults == {}
        kept = Bundles(tmp_path / "data").read(room.policies.active(path).policy.ref.hash)
        assert any(back.encode() in data for data in kept.values())
        assert len(room.log.bodies) == (1 if back == "heron" else 2)

    asyncio.run(go())


def test_all_policies_that_decide_are_told(tmp_path: Path) -> None:
    async def go() -> None:
        room = Room(tmp_path)
        paths = [room.write("a.yaml", "heron"), room.write("b.yaml", "stork")]
        await room.policies.start(paths)
        before = {(active.policy.ref.id, active.policy.ref.hash) for active in room.policies.every.values()}
        assert {name for name, _ in before} == {"a", "b"}
        assert room.active() == before
        room.write("b.yaml", "egret")
        await room.policies.reload()
        after = {(active.policy.ref.id, active.policy.ref.hash) for active in room.policies.every.values()}
        assert len(before & after) == 1
        assert room.active() == after
        room.write("b.yaml", "[")
        await room.policies.reload()
        assert room.active() == after
        assert len(room.policies.faults) == 1

    asyncio.run(go())


def test_a_change_waits_until_every_worker_takes_it(tmp_path: Path) -> None:
    async def go() -> None:
        room = Room(tmp_path)
        path = room.write("p.yaml", "heron")
        await room.policies.start([path])
        old = room.policies.versions[path]
        room.write("p.yaml", "stork")
        new = (await room.policies.prepare())[path]
        assert new not in (None, old)
        assert room.policies.changing == sorted([old, str(new)])
        await room.policies.settle([], loud=False)
        assert room.policies.versions == {path: old}
        assert "every worker" in room.policies.faults[path]
        assert (room.said, len(room.log.bodies), room.reloads("rejected")) == ([], 1, 1)
        # It is offered again without being read again, and the others may have taken it already.
        assert (await room.policies.prepare(), room.loads) == ({path: new}, 2)
        await room.policies.settle([path])
        assert room.policies.versions == {path: new}
        await room.policies.prepare()  # another change may begin before all have taken this one
        assert room.policies.changing == sorted([old, str(new)])
        room.policies.settled()
        assert (room.policies.changing, room.policies.faults) == ([], {})
        assert [json.loads(line)["message"] for line in room.said] == [f"the policy is now p version {str(new)[:12]}"]

    asyncio.run(go())


def test_what_cannot_decide_is_not_offered(tmp_path: Path) -> None:
    async def go() -> None:
        room = Room(tmp_path)
        path = room.write("p.yaml", "heron")
        await room.policies.start([path])
        assert await room.policies.prepare() == {path: room.policies.versions[path]}
        room.write("p.yaml", "[")
        assert await room.policies.prepare() == {path: None}
        await room.policies.settle([])
        assert await room.policies.prepare() == {path: None}
        await room.policies.settle([])
        assert room.reloads("rejected") == 1
        room.write("p.yaml", "stork")
        room.log.latched = LogError("the disk is full")
        assert await room.policies.prepare() == {path: None}
        room.log.latched = None
        assert await room.policies.prepare() != {path: None}

    asyncio.run(go())


@pytest.mark.parametrize("now", ["heron", "stork", "[", None], ids=["as it was", "another", "broken", "gone"])
def test_a_version_that_is_asked_for_decides_whatever_the_file_holds(tmp_path: Path, now: str | None) -> None:
    async def go() -> None:
        first, second = Room(tmp_path), Room(tmp_path)
        path = first.write("p.yaml", "heron")
        await first.policies.start([path])
        old = first.policies.versions[path]
        if now is None:
            os.unlink(path)
        else:
            first.write("p.yaml", now)
        await second.policies.start([path], {path: old})
        assert second.policies.versions == {path: old}
        assert [body["kind"] for body in second.log.bodies] == ["policy_activate"]
        await first.policies.reload()
        await second.policies.reload()
        assert second.policies.versions == first.policies.versions
        assert second.policies.faults == first.policies.faults

    asyncio.run(go())


def test_a_version_that_was_not_kept_is_told(tmp_path: Path) -> None:
    async def go() -> None:
        room = Room(tmp_path)
        path = room.write("p.yaml", "heron")
        with pytest.raises(LogError, match="is not kept here"):
            await room.policies.start([path], {path: "0" * 64})
        await room.policies.start([path])
        kept = tmp_path / "data" / "policies"
        (kept / room.policies.versions[path]).rename(kept / ("0" * 64))
        with pytest.raises(UsageError, match="give another policy"):
            await Room(tmp_path).policies.start([path], {path: "0" * 64})

    asyncio.run(go())


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    class Hasty(Room):
        def __call__(self, path: str | None, generation: int) -> Loaded:
            loaded = super().__call__(path, generation)
            if generation == 2:
                self.write("p.yaml", "egret")
            return loaded

    async def go() -> None:
        room = Hasty(tmp_path)
        path = room.write("p.yaml", "heron")
        await room.policies.start([path])
        room.write("p.yaml", "stork")
        await room.policies.reload()
        await room.policies.reload()
        kept = Bundles(tmp_path / "data").read(room.policies.versions[path])
        assert any(b"egret" in data for data in kept.values())

    asyncio.run(go())


def test_a_list_that_a_broken_version_brings_is_watched(tmp_path: Path) -> None:
    async def go() -> None:
        room = Room(tmp_path)
        path = room.write("p.yaml", "heron")
        await room.policies.start([path])
        old = room.policies.versions[path]
        text = POLICY.format(name="p", word="heron").replace("words: [heron]", "file: birds.txt")
        (tmp_path / "p.yaml").write_text(text)
        watching = asyncio.create_task(room.policies.watch(0.002, room.policies.reload))
        await ticks(room)
        assert room.policies.versions == {path: old}
        (tmp_path / "birds.txt").write_text("heron\nstork\n")
        for _ in range(100):
            await ticks(room, 1)
        assert room.policies.versions != {path: old}
        assert room.policies.faults == {}
        watching.cancel()

    asyncio.run(go())


def mounted(folder: Path, version: str, word: str) -> None:
    """Mount a version as the kubelet does: a folder of its own, then `..data` swapped in one step, then the old folder gone."""
    there = folder / f"..{version}"
    there.mkdir(parents=True)
    (there / "p.yaml").write_text(POLICY.format(name="p", word=word))
    os.utime(there / "p.yaml", (1_800_000_000, 1_800_000_000))
    if not (folder / "p.yaml").is_symlink():
        (folder / "p.yaml").symlink_to("..data/p.yaml")
    old = folder / "..data"
    before = old.resolve() if old.is_symlink() else None
    (folder / "..data_tmp").symlink_to(there.name)
    (folder / "..data_tmp").rename(old)
    if before is not None:
        shutil.rmtree(before)


def test_a_config_map_that_is_swapped_is_noticed_by_its_content(tmp_path: Path) -> None:
    """Of the same size and time as before: only the content tells. A swap that changes nothing is no reload."""
    async def go() -> None:
        room = Room(tmp_path)
        folder = tmp_path / "mount"
        mounted(folder, "2026_01", "heron")
        path = str(folder / "p.yaml")
        await room.policies.start([path])
        first = room.policies.active(path).policy.ref
        watching = asyncio.create_task(room.policies.watch(0.002, room.policies.reload))
        await ticks(room)
        mounted(folder, "2026_02", "stork")
        await until(lambda: room.policies.active(path).policy.ref != first)
        second = room.policies.active(path).policy.ref
        loads = room.loads
        mounted(folder, "2026_03", "stork")
        await ticks(room, 20)
        assert (room.loads, room.policies.active(path).policy.ref) == (loads, second)
        mounted(folder, "2026_04", "heron")
        await until(lambda: room.policies.active(path).policy.ref == first)
        assert room.policies.faults == {}
        assert room.reloads("ok") == 2
        watching.cancel()

    asyncio.run(go())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the watcher does soon."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the watcher has no event
            await asyncio.sleep(0.005)
