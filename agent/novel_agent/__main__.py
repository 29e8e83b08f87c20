"""`novel-agent` and `python -m novel_agent`."""

import sys


def main() -> int:
    """Run the command line; gives the exit code."""
    from novel_agent.cli import run_command_line

    return run_command_line(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
