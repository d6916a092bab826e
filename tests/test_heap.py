"""The C library's heaps: few, and given back."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kitchen import POLICY

ROOT = Path(__file__).parent.parent
HEAPS = """
import ctypes, sys, threading
from moderation.heap import few_arenas
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
few_arenas()
together = threading.Barrier(6)
def work():
    together.wait()
    kept = [bytearray(5000) for _ in range(50)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(6)]
for one in threads: one.start()
for one in threads: one.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="only glibc tells of its heaps")
def test_threads_share_a_few_heaps(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HEAPS, str(tmp_path / "info")], cwd=ROOT, check=True, timeout=60)
    assert (tmp_path / "info").read_text().count("<heap nr=") == 2


TRIMMED = """
import ctypes, sys
from pathlib import Path
from moderation.flow.loading import FileLoader
from moderation.metrics import Metrics
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
loader = FileLoader(0, Metrics())
loader(sys.argv[1], 1)
kept = [bytearray(100_000) for _ in range(800)]
before = resident()
del kept[::2]  # none of them at the end of the heap
loader(sys.argv[1], 2)
print(before - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc gives back what lies between")
def test_what_is_free_goes_back_as_a_policy_is_loaded() -> None:
    command = [sys.executable, "-c", TRIMMED, str(POLICY)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    assert int(done.stdout) > 20_000_000
