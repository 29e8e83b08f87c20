"""What operators type: one command a file, imported only when it is the one typed.

Exit codes: 0 well, 1 the thing checked is not well, 2 usage or configuration, 3 the agent cannot be reached.
"""

import argparse
import errno
import os
import sys
from importlib import import_module

from novel_agent.cli import streams
from novel_agent.errors import AgentError

COMMANDS = {
    "run": "run the agent in the foreground",
    "check-config": "report every mistake in the configuration",
    "config": "show the effective configuration, or its JSON Schema",
    "status": "what runs, what lags, what was dropped and why, what it costs",
    "tail": "what flows through right now, filtered by signal and source",
    "check": "run one input once, now, and print what it yields",
    "queue": "look into the spool: ls, verify, export",
    "doctor": "look for problems with this host, each with its fix",
    "plugins": "what this build can do",
    "version": "versions of the agent, Python, the kernel and the libraries",
}
_OUTPUT_FAILS = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def run_command_line(arguments: list[str]) -> int:
    """Run one command; gives the exit code."""
    streams.make_usable()
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        arguments = ["version"]
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"novel-agent: no command {name!r}{_nearest(name)}\n\n{_usage()}", file=sys.stderr)
        return 2
    command = import_module(f"novel_agent.cli.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(f"novel-agent {name}", description=command.__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_arguments(parser)
    try:
        code = command.main(parser.parse_args(rest))
        sys.stdout.flush()
    except AgentError as error:
        print(f"novel-agent: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if name == "run" or error.errno not in _OUTPUT_FAILS:  # the daemon has other pipes and disks than this one
            raise
        return _output_failed(error)
    except KeyboardInterrupt:
        return 130
    assert isinstance(code, int)
    return code


def _output_failed(error: OSError) -> int:
    streams.discard(sys.stdout)
    if error.errno == errno.EPIPE:  # whoever read it has seen enough
        return 0
    print(f"novel-agent: standard output: {os.strerror(error.errno or 0)}", file=sys.stderr)
    return 1


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items())
    return (
        f"usage: novel-agent COMMAND [options]\n\n{rows}\n\nnovel-agent COMMAND --help tells the options of a command."
    )


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, 1)
    return f"; did you mean {near[0]!r}?" if near else ""
