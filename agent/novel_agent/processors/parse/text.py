"""Lines without a structure: the line is the body, and nothing is guessed from it."""

from novel_agent.model.log import LogRecord


class TextParser:
    """Every line is valid. What is not UTF-8 becomes U+FFFD. There is no time and no severity."""

    def parse(self, line: bytes) -> LogRecord:
        """The line as the body."""
        return LogRecord(body=line.decode("utf-8", "replace"))
