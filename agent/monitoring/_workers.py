"""The workers of one server: who they are, and what all of them, the living and the dead, have counted.

`uvicorn --workers` and gunicorn start processes that answer the same port; whichever is asked for `/metrics` speaks
for all. Each keeps its cells in a file of its own in a directory named after the process that started them; the
answer is the sum of these files. A file outlives its worker, so nothing that was counted is lost when one is killed;
the files of the dead are joined into one when there are several.

The directory is in $PROMETHEUS_MULTIPROC_DIR, else in /dev/shm (memory: nothing is written back to a disk), else
where temporary files go; readable by its owner alone.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from monitoring._said import say_once
from monitoring._series import HEADER_BYTES, SEGMENT_BYTES, Family, Key, port_of, read_block, store

_SUFFIX = ".cells"
_JOINED = "past" + _SUFFIX
_DEAD_FILES_MAX = 4

_decode_key = msgspec.json.Decoder(Key).decode
_keys: dict[bytes, Key] = {}
_KEYS_MAX = 50_000


class _Past(msgspec.Struct, array_like=True):
    """The joined file: the files it stands for (some may still be there), and its records."""

    stands_for: list[str]
    records: list[tuple[bytes, bytes]]


class Workers:
    """This process's place among its siblings. Alone until `join` finds that a server started it as one of several."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._port = 0
        self._speaks_of: dict[str, int] = {}
        self._is_apart = False

    @property
    def directory(self) -> Path | None:
        """Where the siblings' files are; None for a process that serves alone."""
        return self._directory

    def join(self) -> None:
        """Share this process's cells if it is a worker. Never raises: alone it still counts for itself."""
        leader = _leader()
        if leader is None or self._directory is not None:
            return
        try:
            home = _home()
            _remove_forgotten(home)
            directory = home / _identity(leader)
            directory.mkdir(mode=0o700, exist_ok=True)
            store.share(str(directory / (_identity(os.getpid()) + _SUFFIX)))
        except OSError as error:
            say_once(logging.ERROR, "workers cannot share their metrics, each answers for itself", str(error))
            self._is_apart = True
            return
        self._directory = directory

    def serve(self, port: int) -> None:
        """Note the first port: two servers may have the same parent, unless that is gunicorn's arbiter."""
        if port and not self._port and "gunicorn.arbiter" not in sys.modules:
            self._port = port
            store.serve(port)

    def speaks_for_all(self, about: str) -> bool:
        """Whether this is the one worker that tells the agent this: the first to ask, as long as it lives."""
        if about in self._speaks_of:
            return True
        if self._directory is None:
            return self._is_apart or _leader() is None  # a worker speaks when it knows its siblings
        name = hashlib.sha256(about.encode()).hexdigest()[:16]
        try:
            file = os.open(self._directory / f"speaker-{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._speaks_of[about] = file
        return True

    def begin_as_child(self) -> None:
        """After a fork. A lock is held until every copy of its file is closed, so the child closes its own."""
        for file in self._speaks_of.values():
            os.close(file)
        self._directory, self._port, self._speaks_of, self._is_apart = None, 0, {}, False

    def collected(self) -> dict[Key, bytes]:
        """Every series with its cells, of all workers together."""
        if self._directory is None:
            return _merged([[record for block in store.blocks() for record in read_block(block)]], [])
        with _locked(self._directory, fcntl.LOCK_SH):
            living, dead, past = self._files()
            merged = _merged(living, [past.records, *dead.values()])
        if len(dead) > _DEAD_FILES_MAX:
            self._join_dead()
        return merged

    def _files(self) -> tuple[list[list[tuple[bytes, bytes]]], dict[str, list[tuple[bytes, bytes]]], _Past]:
        assert self._directory is not None
        past = _read_past(self._directory)
        living, dead = [], {}
        for path in sorted(self._directory.glob("*-*" + _SUFFIX)):
            if path.name in past.stands_for:
                continue
            blocks = _blocks(path)
            if not blocks or port_of(blocks[0]) not in (0, self._port):
                continue
            records = [record for block in blocks for record in read_block(block)]
            if _lives(path.stem):
                living.append(records)
            else:
                dead[path.name] = records
        return living, dead, past

    def _join_dead(self) -> None:
        assert self._directory is not None
        with contextlib.suppress(OSError), _locked(self._directory, fcntl.LOCK_EX):
            _living, dead, past = self._files()
            records = [
                (msgspec.json.encode(key), cells) for key, cells in _merged([], [past.records, *dead.values()]).items()
            ]
            joined = self._directory / _JOINED
            written = joined.with_suffix(".new")
            written.write_bytes(msgspec.msgpack.encode(_Past([*past.stands_for, *dead], records)))
            written.replace(joined)
            for name in [*past.stands_for, *dead]:
                (self._directory / name).unlink(missing_ok=True)


def _key(encoded: bytes) -> Key:
    key = _keys.get(encoded)
    if key is None:
        if len(_keys) >= _KEYS_MAX:
            _keys.clear()
        key = _keys[encoded] = _decode_key(encoded)
    return key


def _merged(living: Iterable[list[tuple[bytes, bytes]]], dead: Iterable[list[tuple[bytes, bytes]]]) -> dict[Key, bytes]:
    merged: dict[Key, bytes] = {}
    for records, lives in [*((records, True) for records in living), *((records, False) for records in dead)]:
        for encoded, cells in records:
            key = _key(encoded)
            if key.family.kind == "gauge" and key.family.across == "sum" and not lives:
                continue
            other = merged.get(key)
            merged[key] = cells if other is None else _together(key.family, other, cells)
    return merged


def _together(family: Family, one: bytes, other: bytes) -> bytes:
    if family.kind == "gauge":
        (value, when), (other_value, other_when) = struct.unpack("=dd", one), struct.unpack("=dd", other)
        if family.across == "sum":
            return struct.pack("=dd", value + other_value, max(when, other_when))
        return one if when >= other_when else other
    counted = 1 if family.kind == "counter" else 2 + len(family.buckets)
    form = f"={counted}d"
    sums = [a + b for a, b in zip(struct.unpack_from(form, one), struct.unpack_from(form, other), strict=True)]
    exemplars = b"".join(
        max(one[at : at + 40], other[at : at + 40], key=lambda exemplar: struct.unpack_from("=d", exemplar, 32)[0])
        for at in range(8 * counted, len(one), 40)
    )
    return struct.pack(form, *sums) + exemplars


def _blocks(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except OSError:
        return []
    return [content[at : at + SEGMENT_BYTES] for at in range(0, len(content) - HEADER_BYTES, SEGMENT_BYTES)]


def _read_past(directory: Path) -> _Past:
    try:
        return msgspec.msgpack.decode((directory / _JOINED).read_bytes(), type=_Past)
    except FileNotFoundError:
        return _Past([], [])
    except (OSError, msgspec.DecodeError) as error:
        say_once(logging.ERROR, "what earlier workers counted cannot be read", str(error))
        return _Past([], [])


@contextlib.contextmanager
def _locked(directory: Path, how: int) -> Iterator[None]:
    file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, how)
        yield
    finally:
        os.close(file)


def _leader() -> int | None:
    """The process that started this one as a worker: multiprocessing's parent (uvicorn, hypercorn), or gunicorn's arbiter."""
    process = sys.modules.get("multiprocessing.process")
    parent = process.parent_process() if process is not None else None
    if parent is not None:
        return int(parent.pid)
    return os.getppid() if "gunicorn.arbiter" in sys.modules else None


def _started_at(pid: int) -> str | None:
    """Field 22 of /proc/pid/stat, proc(5): with it a pid names one process for ever. None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _identity(pid: int) -> str:
    return f"{pid}-{_started_at(pid) or 0}"


def _lives(identity: str) -> bool:
    pid, _, started_at = identity.partition("-")
    return pid.isdigit() and _started_at(int(pid)) == started_at


def _home() -> Path:
    """This user's directory; pids mean something in one pid namespace only, so that is part of its name."""
    named = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    memory = Path("/dev/shm")  # noqa: S108 - the directory below is this user's alone, which is checked
    base = Path(named) if named else memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    home = base / f"novel-monitoring-{os.getuid()}-{namespace}"
    home.mkdir(mode=0o700, exist_ok=True)
    about = home.lstat()
    if home.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise PermissionError(f"{home} is not this user's alone")
    return home


def _remove_forgotten(home: Path) -> None:
    """Remove the directories of servers that are gone, with all their workers."""
    for directory in home.iterdir():
        if _lives(directory.name) or any(_lives(path.stem) for path in directory.glob("*-*" + _SUFFIX)):
            continue
        with contextlib.suppress(OSError):
            for path in directory.iterdir():
                path.unlink(missing_ok=True)
            directory.rmdir()


workers = Workers()
os.register_at_fork(after_in_child=workers.begin_as_child)
