"""The earlier observability server's command, which starts the agent in this process's place.

python -m monitoring.observability_server --host 0.0.0.0 --port 9090
python -m monitoring.observability_server --config observability_config.json
"""

import argparse
import os
import sys


def agent_command(arguments: list[str]) -> list[str]:
    """The agent's command line for the earlier server's; ends the program with a usage message if it is none."""
    parser = argparse.ArgumentParser("python -m monitoring.observability_server", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 9090)")
    parser.add_argument("--config", metavar="FILE", help="the agent's YAML, or the earlier server's JSON")
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error")
    given = parser.parse_args(arguments)
    command = [sys.executable, "-m", "novel_agent", "run"]
    if given.host is not None or given.port is not None:
        host = given.host or "127.0.0.1"
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        command += ["--listen", f"{host}:{given.port or 9090}"]
    if given.config is not None:
        command += ["--config", given.config]
    if given.log_level is not None:
        command += ["--log-level", given.log_level]
    return command


def main() -> None:
    """Replace this process by the agent: same pid, same environment, same signals."""
    command = agent_command(sys.argv[1:])
    os.execv(command[0], command)  # noqa: S606 - the interpreter that runs this, with arguments made above


if __name__ == "__main__":
    main()
