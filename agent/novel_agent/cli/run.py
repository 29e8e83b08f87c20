"""Run the agent in the foreground.

The configuration is /etc/novel-engine-agent/agent.yaml and conf.d/*.yaml unless told otherwise. SIGHUP reloads it, SIGTERM
and Ctrl-C stop after what is queued was delivered or eight seconds have passed; a second one stops at once.
"""

import argparse
import sys

from novel_agent.cli.options import add_config_options, sources_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `run`."""
    add_config_options(parser)


def main(args: argparse.Namespace) -> int:
    """Run until stopped."""
    from novel_agent.runtime import reload

    sources = sources_of(args)
    child = reload.begin(sources)
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


def _announce(address: str) -> None:
    if sys.stdout.isatty():
        print(f"Novel Engine Agent is running. Its page: {address}", flush=True)
    else:
        print(f"listening on {address}", flush=True)
