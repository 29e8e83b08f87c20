"""Options that several commands share."""

import argparse
import os

from novel_agent.config.model import DEFAULT_CONFIG, Sources


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Which configuration is meant."""
    parser.add_argument("--config", metavar="FILE", help=f"main file (default: {DEFAULT_CONFIG} if it exists)")
    parser.add_argument("--conf-dir", metavar="DIR", help="drop-in files (default: conf.d beside the main file)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="address of the API, the page and /metrics")
    parser.add_argument("--state-dir", metavar="DIR", help="where state is kept")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")


def sources_of(args: argparse.Namespace) -> Sources:
    """Where the configuration of this command line comes from."""
    return Sources(
        config=args.config,
        conf_dir=args.conf_dir if args.conf_dir is not None else _beside(args.config),
        listen=args.listen,
        state_dir=args.state_dir,
        log_level=args.log_level,
        environ=dict(os.environ),
    )


def _beside(config: str | None) -> str | None:
    """The drop-ins that belong to a main file: `conf.d` in its directory, or none."""
    if config is None:
        return None
    beside = os.path.join(os.path.dirname(os.path.abspath(config)), "conf.d")
    return beside if config and os.path.isdir(beside) else ""


def add_agent_options(parser: argparse.ArgumentParser) -> None:
    """Which running agent is asked."""
    parser.add_argument("--url", help="the agent's address (default: $NOVEL_AGENT_URL, else `listen` as configured)")
    parser.add_argument("--token-file", metavar="FILE", help="file with the bearer token, where the agent wants one")
    parser.add_argument(
        "--ca-file",
        metavar="FILE",
        help="certificates to trust, PEM (default: $NOVEL_AGENT_CA_FILE, else the agent's own as configured, else the"
        " system's)",
    )
