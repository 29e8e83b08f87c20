"""Reads the systemd journal by way of journalctl, entry by entry, from a cursor on.

It runs twice. `--follow` leaves out what is not of the newest boot (systemd 251 and later), so first everything that is there
is listed without it, and when that has ended the journal is followed from the last entry on. A directory may hold the journal
of another host, which boots while it is followed: there `--merge` is asked for, with which no boot is left out. The entry of
the cursor is asked for, too, and passed over: `--after-cursor` (up to systemd 254) skips another one where that is gone or does
not match.

journalctl is a process of its own: what reads the journal maps its files into memory, and a file that is cut short while it is
mapped ends the process that reads it.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Literal

from novel_agent.config.schema import Journal
from novel_agent.errors import InputError
from novel_agent.inputs.logs.journal_entry import EntryReader, JournalEntry, cursor_microseconds
from novel_agent.inputs.logs.journal_export import MOST_ENTRY_BYTES, ExportReader
from novel_agent.inputs.logs.journal_matches import arguments

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
"""How long after journalctl has failed it is tried again, doubled each time."""

MISSING = (
    "journalctl is not there: install the package systemd, or in a container mount the host's journal and install systemd "
    "for its journalctl"
)
NOT_ALLOWED = "only entries of the agent's own user can be read: add that user to the group systemd-journal"
TOO_OLD = (
    "journalctl is older than the systemd that wrote the journal and leaves files out: use one of the same version"
)
_LASTING = {
    "insufficient permissions": NOT_ALLOWED,
    "not seeing messages from other users": NOT_ALLOWED,
    "uses an unsupported feature": TOO_OLD,
}
"""What journalctl says while it goes on with what is left."""

_FOLLOW = ("--follow", "--no-tail")
_READ_BYTES = 1 << 16
_PIPE_BYTES = 1 << 18
_MOST_SAID = 2048
_MOST_NOTICES = 16
_END_SECONDS = 1.0
_SETTLED_SECONDS = 5.0
_CHECK_SECONDS = 10.0


class JournalTail:
    """Entries after `cursor`, or without one all there are, or (`start_at` is end) those that come.

    Nothing here blocks, but for up to a second where journalctl does not end when it should. `now` is in seconds since the
    epoch. Raises InputError where there is no journalctl, or where it cannot be asked for what is configured.
    """

    def __init__(
        self,
        settings: Journal,
        cursor: str | None,
        start_at: Literal["beginning", "end"],
        *,
        journalctl: str | None = None,
        most_entry_bytes: int = MOST_ENTRY_BYTES,
    ) -> None:
        self._command = [journalctl or _journalctl(), "--no-pager", "--output=export"]
        self._arguments = arguments(settings)
        self._most_entry_bytes = most_entry_bytes
        self._reader = EntryReader(other_hosts=settings.directory is not None)
        self._export = ExportReader(most_entry_bytes)
        self._cursor = cursor
        self._refused_cursor: str | None = None
        self._from_seconds: float | None = None
        self._starts_at_end = start_at == "end" and cursor is None
        self._process: subprocess.Popen[bytes] | None = None
        self._follows = False
        self._all_boots = ["--merge"] if settings.directory is not None else []
        self._at_first = True
        self._said = b""
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._failed_at = 0.0
        self._started_at = 0.0
        self._due = 0.0
        self._notices: list[str] = []
        self.problem = ""
        """Why less than everything is read now, for people; empty while all is well."""
        self.restarts = 0
        """How often journalctl has ended by itself."""
        self.gaps = 0
        """How often entries may be missing, since the one that was read last was gone from the journal."""

    @property
    def descriptor(self) -> int | None:
        """Readable when there may be entries; another one whenever journalctl was started. None while it does not run."""
        return self._process.stdout.fileno() if self._process is not None and self._process.stdout is not None else None

    @property
    def process_id(self) -> int | None:
        """Of journalctl, while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def due(self) -> float | None:
        """When `poll` is to be called though no descriptor says so, in seconds since the epoch; None while journalctl runs."""
        return self._due if self._process is None else None

    @property
    def follows(self) -> bool:
        """Whether all that was there has been read and what comes is waited for."""
        return self._follows and self._process is not None

    def notices(self) -> list[str]:
        """What happened since it was last asked that people should know, at most 16."""
        notices, self._notices = self._notices, []
        return notices

    def poll(self, now: float, most_bytes: int) -> list[JournalEntry]:
        """The entries that are there, from about so many bytes of what journalctl writes; starts it where it does not run."""
        if self._process is None:
            if self._failed_at <= now < self._due:
                return []
            self._start(now)
        entries: list[JournalEntry] = []
        read = 0
        while read < most_bytes and self._process is not None:
            data = self._read(min(_READ_BYTES, most_bytes - read))
            if data is None:
                break
            if not data:
                self._ended(now)
                continue
            read += len(data)
            entries += self._entries(data, now)
        self._listen()
        if self._process is not None and now - self._started_at >= _SETTLED_SECONDS:
            self._is_well()
        return entries

    def close(self) -> None:
        """End journalctl. Can be called at any time, also again."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            _reap(process)

    def _start(self, now: float) -> None:
        if self._starts_at_end and self._from_seconds is None:
            self._from_seconds = now
        follow = [*_FOLLOW, *self._all_boots] if self._follows else []
        try:
            process = subprocess.Popen(
                [*self._command, *follow, *self._place(), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                bufsize=0,
            )
        except OSError as error:
            self._failed(f"journalctl cannot be started: {error.strerror}", now)
            return
        self._process = process
        self._started_at = now
        self._export = ExportReader(self._most_entry_bytes)
        self._at_first = True
        self._said = b""
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        _enlarge(process)

    def _place(self) -> Sequence[str]:
        """Where to begin; by time where the cursor was refused."""
        if self._cursor is not None and self._cursor != self._refused_cursor:
            return (f"--cursor={self._cursor}",)
        since = self._from_seconds
        if self._cursor is not None:
            microseconds = cursor_microseconds(self._cursor)
            since = None if microseconds is None else microseconds / 1e6
        return () if since is None else (f"--since=@{since:.6f}",)

    def _read(self, most_bytes: int) -> bytes | None:
        """None where nothing is there now; nothing at the end."""
        descriptor = self.descriptor
        if descriptor is None:
            return None
        try:
            return os.read(descriptor, most_bytes)
        except BlockingIOError:
            return None

    def _entries(self, data: bytes, now: float) -> list[JournalEntry]:
        found = self._export.feed(data)
        if not found:
            return []
        observed = round(now * 1e9)
        entries = [self._reader.entry(fields, observed) for fields in found]
        if self._at_first:
            self._at_first = False
            entries = self._without_known(entries)
        if entries:
            self._cursor = entries[-1].cursor or self._cursor
            self._is_well()
        return entries

    def _is_well(self) -> None:
        """It reads, though perhaps not everything."""
        self._pause_seconds = FIRST_PAUSE_SECONDS
        if self.problem not in _LASTING.values():
            self.problem = ""

    def _without_known(self, entries: list[JournalEntry]) -> list[JournalEntry]:
        """Without the entry of the cursor, which comes first; what is followed is of one boot, where it may be missing."""
        if self._cursor is None:
            return entries
        if entries[0].cursor == self._cursor:
            return entries[1:]
        if not self._follows:
            self.gaps += 1
            self._notice(
                "the entry that was read last is not in the journal any more, or not asked for any more; reading goes on with "
                "the first one after it that is there"
            )
        return entries

    def _ended(self, now: float) -> None:
        """What is there has been listed and is followed from here on, or something is wrong."""
        process, self._process = self._process, None
        if process is None:
            return
        self._said = (self._said + _drained(process))[-_MOST_SAID:]
        status = _reap(process)
        said = self._said.decode("utf-8", "replace").strip()
        nothing_listed = self._at_first and not self._export.held_bytes and not said
        if not self._follows and (status == 0 or (status == 1 and nothing_listed)):
            self._follows = True  # some versions end with 1 where there is nothing
            self._start(now)
            return
        self._follows = False
        if self._cursor is not None and self._cursor != self._refused_cursor and "to cursor" in said:
            self._refused_cursor = self._cursor
            self.gaps += 1
            self._notice(
                "the journal does not accept the cursor; reading goes on from its time, or else from the oldest entry"
            )
        if self._all_boots and "--merge" in said:
            self._all_boots = []  # systemd 251 to 253 take it for --boot, which they refuse beside it
        self.restarts += 1
        self._failed(_reason(said) or f"journalctl has ended with status {status}", now)

    def _failed(self, problem: str, now: float) -> None:
        if problem != self.problem:
            self._notice(problem)
        self.problem = problem
        self._failed_at = now
        self._due = now + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    def _listen(self) -> None:
        """What journalctl says beside the entries; while it runs, that is that something may not be read."""
        if self._process is None:
            return
        said = _drained(self._process)
        if said:
            self._said = (self._said + said)[-_MOST_SAID:]
            lasting = _lasting(self._said.decode("utf-8", "replace"))
            if lasting and self.problem != lasting:
                self.problem = lasting
                self._notice(lasting)

    def _notice(self, text: str) -> None:
        if len(self._notices) < _MOST_NOTICES:
            self._notices.append(text)


def problem_of(settings: Journal, *, journalctl: str | None = None) -> str:
    """Why the journal cannot be read as configured, for people; empty where it can. Blocks for up to ten seconds."""
    try:
        asked = [journalctl or _journalctl(), "--no-pager", "--output=export", "--lines=1", *arguments(settings)]
        done = subprocess.run(
            asked,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
            timeout=_CHECK_SECONDS,
            check=False,
        )
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"journalctl cannot be started: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"journalctl has not answered within {_CHECK_SECONDS:.0f} s"
    said = done.stderr[-_MOST_SAID:].decode("utf-8", "replace").strip()
    return _reason(said) or f"journalctl has ended with status {done.returncode}" if done.returncode else _lasting(said)


def _journalctl() -> str:
    found = shutil.which("journalctl", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/bin", "/bin")))
    if found is None:
        raise InputError(MISSING)
    return found


def _environment() -> dict[str, str]:
    """English, since what it says is read; nothing of the agent's own."""
    return {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "SYSTEMD_COLORS": "0"}


def _lasting(said: str) -> str:
    """What is wrong though journalctl goes on."""
    return next((problem for sign, problem in _LASTING.items() if sign in said), "")


def _reason(said: str) -> str:
    """What journalctl says is wrong, in a line."""
    if lasting := _lasting(said):
        return lasting
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f"journalctl: {lines[-1]}" if lines else ""


def _drained(process: "subprocess.Popen[bytes]") -> bytes:
    """What is there of its standard error."""
    said = b""
    while process.stderr is not None and not process.stderr.closed:
        try:
            data = os.read(process.stderr.fileno(), _READ_BYTES)
        except BlockingIOError:
            break
        if not data:
            break
        said = (said + data)[-_MOST_SAID:]
    return said


def _enlarge(process: "subprocess.Popen[bytes]") -> None:
    """A larger pipe, so that fewer reads are needed; where the kernel refuses it, the usual one does."""
    import fcntl

    if process.stdout is not None:
        try:
            fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            return


def _reap(process: "subprocess.Popen[bytes]") -> int:
    """Its exit status, once it has ended; it is killed where it does not within a second."""
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
