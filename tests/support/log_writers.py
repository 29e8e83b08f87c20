"""Programs that write numbered log records and rotate their files, each in a thread."""

import gzip
import json
import os
import random
import re
import shutil
import threading
import time
import zlib
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Kind = Literal["text", "json", "multiline"]
KEPT_ROTATIONS = 12
_POOL_CHARACTERS = 200_000
_ALPHABET = "abcdefghijklmnopqrstuvwxyz 0123456789 \"\\{}[]=,;:'\täöüß€𝕏"
_SEALED = re.compile(r"w(\d+):(\d+) .*? ?#([0-9a-f]{8})", re.DOTALL)


def sealed(text: str) -> str:
    """The text with a checksum at its end."""
    return f"{text} #{zlib.crc32(text.encode()):08x}"


def identified(body: str) -> tuple[int, int] | None:
    """Writer and number of a record's body; None where it is not as it was written."""
    found = _SEALED.fullmatch(body)
    if not found or body[-10:-8] != " #" or zlib.crc32(body[:-10].encode()) != int(found[3], 16):
        return None
    return int(found[1]), int(found[2])


class LogWriter(threading.Thread):
    """Appends records to `directory/NAME.log` and rotates it at random, in every way there is.

    `written_at` tells when a record was written; `count` how many were. A file that comes and is rotated away while
    nobody looks is known to nobody, so one is rotated only when it was there at `known_at`, on the monotonic clock: set it as
    time goes on.
    """

    def __init__(self, directory: Path, index: int, kind: Kind, *, records_per_second: float, seed: int) -> None:
        super().__init__(name=f"writer {index}", daemon=True)
        self.index = index
        self.kind = kind
        self.path = directory / f"{kind}{index}.log"
        self.count = 0
        self.known_at = float("-inf")
        self.rotations: dict[str, int] = {}
        self.failed: OSError | ValueError | None = None
        self._rate = records_per_second
        self._draw = random.Random(seed * 1000 + index)
        self._pool = "".join(self._draw.choices(_ALPHABET, k=_POOL_CHARACTERS))
        self._times: list[float] = []
        self._counts: list[int] = []
        self._stopping = threading.Event()
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        os.close(self._file)
        if self.failed is not None:
            raise self.failed

    def written_at(self, number: int) -> float:
        """On the monotonic clock, when that record was whole."""
        return self._times[bisect_right(self._counts, number)]

    def run(self) -> None:
        ways: tuple[Callable[[], None], ...] = (self._rename, self._copy_and_truncate, self._rename_and_compress)
        rotated_at = time.monotonic()
        next_rotation = rotated_at + self._draw.uniform(3, 8)
        try:
            while not self._stopping.is_set():
                pause = self._draw.uniform(0.01, 0.1)
                self._write(max(1, int(pause * self._rate)))
                if time.monotonic() > next_rotation and rotated_at < self.known_at:
                    way = self._draw.choice(ways)
                    way()
                    self.rotations[way.__name__] = self.rotations.get(way.__name__, 0) + 1
                    rotated_at = time.monotonic()
                    next_rotation = rotated_at + self._draw.uniform(3, 8)
                self._stopping.wait(pause)
        except (OSError, ValueError) as error:
            self.failed = error

    # what is written --------------------------------------------------------------------------------------------------

    def _write(self, records: int) -> None:
        data = b"".join(self._record(self.count + number) for number in range(records))
        if self._draw.random() < 0.3:
            cut = self._draw.randrange(len(data))
            os.write(self._file, data[:cut])
            self._stopping.wait(self._draw.uniform(0, 0.2))
            data = data[cut:]
        while data:
            data = data[os.write(self._file, data) :]
        self.count += records
        self._times.append(time.monotonic())
        self._counts.append(self.count)

    def _record(self, number: int) -> bytes:
        text = f"w{self.index}:{number} {self._text()}"
        if self.kind == "json":
            fields = {"timestamp": "2026-11-28T14:00:00Z", "level": "info", "message": sealed(text), "number": number}
            return json.dumps(fields, ensure_ascii=self._draw.random() < 0.5).encode() + b"\n"
        if self.kind == "multiline":
            frames = [f"    at frame {frame} {self._text()}" for frame in range(self._draw.choice((0, 0, 1, 3, 8)))]
            return sealed("\n".join([text, *frames])).encode() + b"\n"
        raw = text.encode()
        if self._draw.random() < 0.05:
            raw = raw.replace(b"e", b"\xff")
        text = raw.decode(errors="replace")
        end = b"\r\n" if self._draw.random() < 0.02 else b"\n"
        return raw + f" #{zlib.crc32(text.encode()):08x}".encode() + end

    def _text(self) -> str:
        dice = self._draw.random()
        length = self._draw.randrange(0, 400) if dice < 0.95 else self._draw.randrange(400, 4000)
        if dice > 0.9995:
            length = self._draw.randrange(10_000, 100_000)
        start = self._draw.randrange(_POOL_CHARACTERS - length)
        return self._pool[start : start + length].strip()

    # how files are rotated --------------------------------------------------------------------------------------------

    def _rename(self) -> None:
        self._move_up()
        self.path.rename(self._numbered(1))
        self._reopen()

    def _rename_and_compress(self) -> None:
        self._rename()
        plain = self._numbered(1)
        with plain.open("rb") as source, gzip.open(f"{plain}.gz", "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target)
        plain.unlink()

    def _copy_and_truncate(self) -> None:
        self._move_up()
        shutil.copyfile(self.path, self._numbered(1))
        os.truncate(self.path, 0)

    def _move_up(self) -> None:
        for number in range(KEPT_ROTATIONS, 0, -1):
            for ending in ("", ".gz"):
                old = self._numbered(number, ending)
                if old.exists() and number == KEPT_ROTATIONS:
                    old.unlink()
                elif old.exists():
                    old.rename(self._numbered(number + 1, ending))

    def _numbered(self, number: int, ending: str = "") -> Path:
        return self.path.with_name(f"{self.path.name}.{number}{ending}")

    def _reopen(self) -> None:
        os.close(self._file)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
