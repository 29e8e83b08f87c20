"""Run a command among mounts that never answer, or very many, in namespaces of its own.

in_mount_namespace.py DIRECTORY DEAD TMPFS COMMAND…: below DIRECTORY, DEAD FUSE file systems whose server never reads a request,
and TMPFS empty tmpfs. Needs root. The process ids are new too, since /proc/1/mountinfo is what collectors read; everything ends
with the command.
"""

import ctypes
import os
import signal
import subprocess
import sys

CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
MS_REC_PRIVATE = 16384 | 262144
FORWARDED = (signal.SIGTERM, signal.SIGHUP)

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source: str, target: str, kind: str, options: str = "") -> None:
    os.makedirs(target, exist_ok=True)
    check(libc.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()))


def first_process(directory: str, dead: int, tmpfs: int, command: list[str]) -> int:
    check(libc.mount(None, b"/", None, MS_REC_PRIVATE, None))
    mount("proc", "/proc", "proc")
    servers = []
    for number in range(dead):
        servers.append(os.open("/dev/fuse", os.O_RDWR))
        options = f"fd={servers[-1]},rootmode=40000,user_id=0,group_id=0"
        mount(f"dead{number}", f"{directory}/dead{number}", "fuse", options)
    for number in range(tmpfs):
        mount("many", f"{directory}/many{number}", "tmpfs", "size=4k")
    with subprocess.Popen(command) as child:
        for number in FORWARDED:
            signal.signal(number, lambda number, _: child.send_signal(number))
        return child.wait()


def main() -> int:
    directory, dead, tmpfs, *command = sys.argv[1:]
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID))
    child = os.fork()
    if child == 0:
        os._exit(first_process(directory, int(dead), int(tmpfs), command) & 0xFF)
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
