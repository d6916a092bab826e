"""`moderation demo` as a newcomer runs it: what is shown, and that nothing is left running."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from moderation.cli.demo import TALKS, command

ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def heeds() -> None:
    """A test run that was begun with nohup, or in the background, ignores some, and who is begun by it would, too."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_DFL)


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_ends_the_demo_ends_its_sidecar(ending: signal.Signals, tmp_path: Path) -> None:
    call = [sys.executable, "-m", "moderation", "demo", "--serve", "--port", "0", "--data", str(tmp_path / "data")]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeds) as process:
        assert process.stdout is not None
        shown: list[str] = []
        for line in process.stdout:
            shown.append(line)
            if "Ctrl-C ends it" in line:
                break
        process.send_signal(ending)
        rest, _ = process.communicate(timeout=60)
    table = "".join(shown)
    port = int(table.split("http://127.0.0.1:", 1)[1].split("/", 1)[0])
    assert process.returncode == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the sidecar still holds its port"
    assert "Please write to <EMAIL_ADDRESS_1>;" in table
    assert len(re.findall(r"\(nothing\)", table)) == sum("request for" in talk.title or "injection" in talk.title for talk in TALKS)
    assert re.search(r"INTEGRITY +ok\n +COMPLETENESS +ok", rest)
    assert f"python -m moderation audit query --data {tmp_path}/data --action block" in rest


def test_how_to_call_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bin" / "moderation"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert command("bin/moderation") == "bin/moderation"
    assert command("/work/moderation/__main__.py").endswith(" -m moderation")
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    assert command("bin/moderation") == "moderation"
    assert command(str(script)) == "moderation"
