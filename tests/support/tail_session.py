"""A LogTail with a clock that is set by hand, and what it delivered."""

import os

from novel_agent.inputs.logs.content import Rules
from novel_agent.inputs.logs.settings import Settings
from novel_agent.inputs.logs.tail import LogTail


class TailSession:
    """Follows files below a directory. `lines` is what was delivered, as text with newlines taken off."""

    def __init__(self, *paths, saved=None, acknowledge=True, **settings):
        rules = Rules(settings.pop("max_line_bytes", 1 << 20), settings.pop("encoding", "auto"))
        self.settings = Settings(tuple(str(path) for path in paths), rules=rules, **settings)
        self.tail = LogTail(self.settings, saved)
        self.acknowledge = acknowledge
        self.now = 1000.0
        self.unix = 1_700_000_000.0
        self.reads = []
        self.most_bytes = 4 << 20

    def poll(self, seconds=0.0):
        """Let time pass and read all there is."""
        self.now += seconds
        new = []
        for _ in range(10_000):
            reads = self.tail.poll(self.now, self.most_bytes)
            new += reads
            if not reads and self.tail.wants(self.now) > 0:
                break
        else:
            raise AssertionError("never done")
        self.reads += new
        if self.acknowledge:
            for read in new:
                self.tail.done(read.position, read.chunk.end)
        return lines_of(new)

    def wait(self, seconds):
        """Let time pass second by second."""
        lines = []
        for _ in range(seconds):
            lines += self.poll(1.0)
        return lines

    @property
    def lines(self):
        return lines_of(self.reads)

    def positions(self):
        return self.tail.positions(self.unix)

    def restart(self, *, saved=None):
        """Another tail, which knows only what the checkpoint holds."""
        saved = self.positions() if saved is None else saved
        self.tail.close()
        self.tail = LogTail(self.settings, saved)
        self.now += 1.0

    def status(self, path):
        return next(status for status in self.tail.status() if status.path == str(path))

    def states(self):
        return {os.path.basename(status.place): status.state for status in self.tail.status()}

    def events(self):
        return [notice.event for notice in self.tail.notices()]

    def close(self):
        self.tail.close()


def lines_of(reads):
    lines = []
    for read in reads:
        encoding = read.chunk.encoding
        lines += read.chunk.data.decode(encoding, "replace").splitlines()
    return lines


def append(path, text):
    with open(path, "ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def numbered(first, last, width=40):
    return [f"line {number} ".ljust(width, ".") for number in range(first, last)]


def joined(lines):
    return "".join(line + "\n" for line in lines)
