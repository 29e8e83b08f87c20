"""Loading the configuration outside the daemon's own memory.

PyYAML and the checks cost memory that would never be given back, so a child process loads, merges and checks, and hands the
result over a pipe (see `config.worker`). Secrets travel in the pipe, never in arguments or the environment of another.
"""

import asyncio
import contextlib
import subprocess
import sys

from novel_agent.config.model import Loaded, Sources
from novel_agent.config.worker import decode_answer, request_bytes
from novel_agent.errors import ConfigError, ConfigErrors

_COMMAND = (sys.executable, "-P", "-m", "novel_agent.config")
_DEADLINE_SECONDS = 30.0


def begin(sources: Sources) -> "subprocess.Popen[bytes]":
    """Start loading; the caller has other things to import meanwhile."""
    child = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # `finish` tells how the child ended
        child.stdin.write(request_bytes(sources))
        child.stdin.close()
    child.stdin = None
    return child


def finish(child: "subprocess.Popen[bytes]") -> Loaded:
    """Wait for what `begin` started; ConfigErrors where the configuration is not valid."""
    try:
        answer, _ = child.communicate(timeout=_DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise _no_answer(f"no answer within {_DEADLINE_SECONDS:g} s") from None
    return _decode(answer, child.returncode)


async def load_again(sources: Sources) -> Loaded:
    """The same from within the event loop, for a reload."""
    try:
        child = await asyncio.create_subprocess_exec(*_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        raise _no_answer(error.strerror or str(error)) from None
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            answer, _ = await child.communicate(request_bytes(sources))
    except TimeoutError:
        raise _no_answer(f"no answer within {_DEADLINE_SECONDS:g} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _decode(answer, child.returncode or 0)


def _decode(answer: bytes, exit_code: int) -> Loaded:
    if not answer:
        raise _no_answer(f"exit code {exit_code}")
    return decode_answer(answer)


def _no_answer(why: str) -> ConfigErrors:
    return ConfigErrors([ConfigError("configuration", 0, "", f"could not be loaded: {why}")])
