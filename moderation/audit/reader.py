"""Single leaves, read from the log files by their places. Believes no place: what stands there must be the leaf that was meant.

Knows nothing of the index that told the place, and checks no signatures: that is verify's.
"""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path
from zlib import crc32

from moderation.audit.canon import MAX_LEAF
from moderation.errors import ModerationError

_FRAME = struct.Struct(">II")
_READ = 4096
"""Most leaves are shorter, and are read in one go."""
_OPEN = 64
"""Files held open at once."""
_LOG = re.compile(r"log-[0-9]{1,9}")


class PlaceError(ModerationError):
    """The leaf that was meant does not stand at this place."""


class Reader:
    """Reads leaves of the logs of one data folder. Close it."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._files: dict[tuple[str, int], int] = {}

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def leaf(self, log: str, index: int, first: int, at: int) -> dict[str, object]:
        """Leaf `index` of a log, whose frame begins at byte `at` of the file whose first leaf is `first`. Raises PlaceError."""
        try:
            fd = self._file(log, first)
            data = os.pread(fd, _READ, at)
            length, crc = _FRAME.unpack_from(data)
            end = _FRAME.size + length
            if end > len(data) and length <= MAX_LEAF + 1:
                data = os.pread(fd, end, at)
            payload = data[_FRAME.size : end]
            body = json.loads(payload[1:]) if len(payload) == length and crc32(payload) == crc and payload[0] == 1 else None
        except (OSError, OverflowError, ValueError, IndexError, struct.error, TypeError):
            body = None
        if not isinstance(body, dict) or body.get("idx") != index:
            raise PlaceError(f"{log}: leaf {index} is not where it was said to be")
        return body

    def _file(self, log: str, first: int) -> int:
        fd = self._files.get((log, first))
        if fd is None:
            if not _LOG.fullmatch(log):
                raise ValueError
            if len(self._files) >= _OPEN:
                os.close(self._files.pop(next(iter(self._files))))
            fd = self._files[log, first] = os.open(self._data / log / f"seg-{int(first)}.qseg", os.O_RDONLY | os.O_CLOEXEC)
        return fd
