"""Writers that append and rotate in every way, and restarts of the agent, in any order: every line, whole, none lost."""

import collections
import gzip
import os
import shutil
import tempfile
from pathlib import Path

import zstandard
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tail_session import TailSession, append

NAMES = st.sampled_from(["a.log", "b.log"])


class Writers(RuleBasedStateMachine):
    """Lines are numbered; `complete` are those whose newline is written, `begun` a line that is not ended, by file."""

    @initialize(
        pattern=st.sampled_from(["*.log", "*.log*", "*"]), inotify=st.booleans(), turn=st.sampled_from([64, 4 << 20])
    )
    def begin(self, pattern, inotify, turn):
        self.root = Path(tempfile.mkdtemp(prefix="writers-"))
        self.number = 0
        self.complete = []
        self.begun = {}
        self.seen = set()
        self.unacknowledged = []
        self.most_twice = 0
        self.rotations = 0
        self.session = TailSession(self.root / pattern, inotify=inotify, acknowledge=False)
        self.session.most_bytes = turn

    def text(self, length):
        self.number += 1
        return f"<{self.number} {'x' * length}>"

    @rule(name=NAMES, count=st.integers(1, 40), length=st.integers(0, 120))
    def write(self, name, count, length):
        for _ in range(count):
            line = self.begun.pop(name, "")
            rest = self.text(length) if not line else "+>"
            append(self.root / name, rest + "\n")
            self.complete.append(line + rest)

    @rule(name=NAMES, length=st.integers(0, 50))
    def write_a_part(self, name, length):
        if name not in self.begun:
            self.begun[name] = self.text(length)
            append(self.root / name, self.begun[name])

    @rule(name=NAMES)
    def end_the_part(self, name):
        if name in self.begun:
            append(self.root / name, "\n")
            self.complete.append(self.begun.pop(name))

    def can_rotate(self, name):
        """A file that was rotated before anybody saw it may match no pattern any more: that is no loss of the agent."""
        path = self.root / name
        if not path.exists() or name in self.begun or os.path.getsize(path) == 0 or self.rotations >= 8:
            return False
        if name not in self.seen:
            self.read()
        self.seen.discard(name)
        return True

    def shift(self, name):
        """Make room for .1, as logrotate does; the oldest goes."""
        for number in (9, 8, 7, 6, 5, 4, 3, 2, 1):
            for suffix in ("", ".gz", ".zst"):
                path = self.root / f"{name}.{number}{suffix}"
                if path.exists():
                    os.rename(path, self.root / f"{name}.{number + 1}{suffix}")

    @rule(name=NAMES, poll=st.booleans())
    def rename(self, name, poll):
        if self.can_rotate(name):
            self.rotations += 1
            self.shift(name)
            os.rename(self.root / name, self.root / f"{name}.1")
            if poll:
                self.read()
            append(self.root / name, "")

    @rule(name=NAMES)
    def copy_and_truncate(self, name):
        if self.can_rotate(name):
            self.rotations += 1
            self.shift(name)
            shutil.copyfile(self.root / name, self.root / f"{name}.1")
            os.truncate(self.root / name, 0)

    @rule(name=NAMES, noticed=st.booleans())
    def copy_noticed_before_truncation(self, name, noticed):
        if self.can_rotate(name):
            self.rotations += 1
            self.shift(name)
            shutil.copyfile(self.root / name, self.root / f"{name}.1")
            if noticed:
                self.read()
            os.truncate(self.root / name, 0)
            self.seen.discard(name)

    @rule(name=NAMES, zstd=st.booleans(), noticed=st.booleans())
    def compress(self, name, zstd, noticed):
        path = self.root / f"{name}.1"
        if path.exists():
            content = path.read_bytes()
            if zstd:
                (self.root / f"{name}.1.zst").write_bytes(zstandard.ZstdCompressor().compress(content))
            else:
                with gzip.open(self.root / f"{name}.1.gz", "wb") as file:
                    file.write(content)
            if noticed:
                self.read()
            os.unlink(path)

    @rule(name=NAMES)
    def remove(self, name):
        """What nobody can have missed may go."""
        self.read()
        if self.can_rotate(name):
            os.unlink(self.root / name)

    @rule()
    def read(self):
        before = len(self.session.reads)
        self.session.poll(1.0)
        self.seen = {
            name for name in ("a.log", "b.log") if (self.root / name).exists() and os.path.getsize(self.root / name)
        }
        self.unacknowledged += self.session.reads[before:]

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds):
        before = len(self.session.reads)
        if not self.begun:
            self.session.wait(seconds)
        self.unacknowledged += self.session.reads[before:]

    @rule(share=st.floats(0, 1))
    def acknowledge(self, share):
        count = round(len(self.unacknowledged) * share)
        for read in self.unacknowledged[:count]:
            self.session.tail.done(read.position, read.chunk.end)
        del self.unacknowledged[:count]

    @precondition(lambda self: self.unacknowledged)
    @rule(share=st.floats(0, 1))
    def acknowledge_within(self, share):
        read = self.unacknowledged[0]
        lines = read.chunk.data.splitlines(keepends=True)
        end = read.chunk.offset + len(b"".join(lines[: round(len(lines) * share)]))
        self.session.tail.done(read.position, end)

    @rule()
    def restart(self):
        self.most_twice += len(self.unacknowledged)
        self.unacknowledged.clear()
        self.session.restart()

    @invariant()
    def none_is_torn(self):
        if hasattr(self, "session"):
            assert set(self.session.lines) <= set(self.complete)

    def teardown(self):
        if not hasattr(self, "session"):
            return
        try:
            for name in list(self.begun):
                self.end_the_part(name)
            self.session.wait(60)
            delivered = collections.Counter(self.session.lines)
            assert set(delivered) == set(self.complete)
            if not self.most_twice:
                assert max(delivered.values(), default=1) == 1
            self.session.acknowledge = True
            for read in self.session.reads:
                self.session.tail.done(read.position, read.chunk.end)
            self.session.restart()
            assert self.session.wait(30) == []
        finally:
            self.session.close()
            shutil.rmtree(self.root)


TestWriters = Writers.TestCase
TestWriters.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
