"""Start a journald among directories of its own, write to it while its files are rotated and deleted, and read it meanwhile.

live_journal.py LINES: prints what was read, as JSON. Needs root and the package systemd; runs in a mount namespace of its own
(`unshare --mount`), so that nothing of the host's journal is touched. What it starts ends with it.
"""

import json
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from novel_agent.config.schema import Journal
from novel_agent.inputs.logs.journal import JournalTail, problem_of

JOURNALD = "/usr/lib/systemd/systemd-journald"
DEADLINE_SECONDS = 30
ASKED = Journal(identifiers=("numbers",))


def start_journald() -> "subprocess.Popen[bytes]":
    for directory in ("/run", "/var/log"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=256m", "tmpfs", directory], check=True)
    for directory in ("/run/systemd/journal", "/run/log", "/var/log/journal"):
        Path(directory).mkdir(parents=True)
    journald = subprocess.Popen([JOURNALD], stderr=subprocess.DEVNULL)
    wait_until(lambda: subprocess.run(["journalctl", "--lines=1"], capture_output=True, check=False).stdout != b"")
    return journald


def wait_until(holds) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            sys.exit("waited too long")
        select.select([], [], [], 0.02)


def write(numbers, then=lambda: None) -> None:
    """One line for each, through systemd-cat; `then` is called while they are written."""
    cat = subprocess.Popen(["systemd-cat", "--identifier=numbers"], stdin=subprocess.PIPE)
    half = len(numbers) // 2
    for part in (numbers[:half], numbers[half:]):
        cat.stdin.write("".join(f"number {number}\n" for number in part).encode())
        cat.stdin.flush()
        then()
    cat.stdin.close()
    cat.wait()


def read(tail, count):
    """So many entries, and whatever comes with the last."""
    entries = []

    def enough() -> bool:
        if tail.descriptor is not None:
            select.select([tail.descriptor], [], [], 0.2)
        entries.extend(tail.poll(time.time(), 1 << 16))
        return len(entries) >= count

    wait_until(enough)
    return entries


def rotate() -> None:
    subprocess.run(["journalctl", "--rotate"], check=True)


def main(lines: int) -> None:
    journald = start_journald()
    before, during, later = range(lines), range(lines, 2 * lines), range(2 * lines, 3 * lines)
    try:
        write(before, rotate)
        problem = problem_of(ASKED)
        tail = JournalTail(ASKED, None, "beginning")
        entries = read(tail, lines)
        write(during, rotate)
        entries += read(tail, lines)
        subprocess.run(["kill", "-9", str(tail.process_id)], check=True)
        write(later, rotate)
        entries += read(tail, lines)
        restarts, gaps = tail.restarts, tail.gaps
        tail.close()

        again = JournalTail(ASKED, entries[lines].cursor, "end")
        second = read(again, 2 * lines - 1)
        again.close()

        rotate()
        subprocess.run(["journalctl", "--vacuum-files=1"], capture_output=True, check=True)
        write(range(1))
        vacuumed = JournalTail(ASKED, entries[0].cursor, "end")
        third = read(vacuumed, 1)
        vacuumed.close()
    finally:
        journald.send_signal(signal.SIGTERM)
        journald.wait()
    found = {
        "problem": problem,
        "bodies": [entry.record.body for entry in entries],
        "uids": len({entry.record.attributes["log.record.uid"] for entry in entries}),
        "restarts": restarts,
        "gaps": gaps,
        "again": [entry.record.body for entry in second],
        "vacuumed": [third[-1].record.body, vacuumed.gaps],
        "attributes": entries[0].record.attributes,
        "severity": entries[0].record.severity_text,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
