"""A clock that several processes read, and a test moves."""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path
from typing import Final

_FORMAT: Final = struct.Struct("d")


class SharedClock:
    """Unix seconds in a file. The first process that opens it sets it to now."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_FORMAT.pack(int(time.time())))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _FORMAT.size)

    def __call__(self) -> float:
        return float(_FORMAT.unpack_from(self._memory)[0])

    def advance(self, seconds: float) -> None:
        _FORMAT.pack_into(self._memory, 0, self() + seconds)
