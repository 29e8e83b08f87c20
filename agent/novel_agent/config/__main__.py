"""`python -m novel_agent.config`: loads the configuration that standard input asks for; see `worker`."""

import sys

from novel_agent.config.worker import answer_bytes


def main() -> None:
    """Read one request, write one answer."""
    sys.stdout.buffer.write(answer_bytes(sys.stdin.buffer.read()))


if __name__ == "__main__":
    main()
