"""Run the agent in the foreground.

The configuration is /etc/novel-engine-agent/agent.yaml and conf.d/*.yaml unless told otherwise. SIGHUP reloads it, SIGTERM
and Ctrl-C stop after what is queued was delivered or eight seconds have passed; a second one stops at once.
"""

import argparse
import os
import signal
import sys
from subprocess import Popen

from novel_agent.cli import streams
from novel_agent.cli.options import add_config_options, sources_of

_STOPS = (signal.SIGTERM, signal.SIGINT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    add_config_options(parser)


def main(args: argparse.Namespace) -> int:
    """Run until stopped."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the daemon is there to reload anything
    from novel_agent.runtime import reload

    sources = sources_of(args)
    # The child starts with these blocked, so that a Ctrl-C, which a terminal sends to both, is this process's to obey.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    child = reload.begin(sources)
    _end_at_once_when_asked(child)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    # The child loads the configuration while this process imports; on two cores that is one wait, not two.
    import uvloop

    from novel_agent.api.server import ApiServer
    from novel_agent.runtime.daemon import Daemon
    from novel_agent.runtime.logs import set_up

    loaded = reload.finish(child)
    set_up(loaded.config.agent.log_level)

    async def serve() -> None:
        await Daemon(loaded, sources, ApiServer).run(_announce)

    uvloop.run(serve())
    return 0


def _end_at_once_when_asked(child: "Popen[bytes]") -> None:
    """Until the daemon takes these signals over there is nothing to bring to an end but the child."""

    def end(*_: object) -> None:
        child.kill()
        os._exit(0)

    for number in _STOPS:
        signal.signal(number, end)


def _announce(address: str) -> None:
    text = f"Novel Engine Agent is running. Its page: {address}" if sys.stdout.isatty() else f"listening on {address}"
    try:
        print(text, flush=True)
    except (OSError, ValueError):  # the log has the address too
        streams.discard(sys.stdout)
