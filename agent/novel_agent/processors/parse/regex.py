"""Lines of a user's pattern, whose named groups become the parts of the record and its attributes.

The engine is RE2: time grows with the line alone, whoever wrote pattern and line. The pattern is found at the beginning of the
line and need not reach its end. A dot also matches the newlines of lines that were joined. Groups that took no part in the
match give no attribute, groups without a name are not looked at.

Lines are matched as bytes: on text the Python layer of RE2 counts characters up to every border, which takes twice as long. A
line that is not UTF-8 is mended first, since RE2 matches none of its broken bytes.
"""

from novel_agent.model.log import LogRecord
from novel_agent.model.value import Attributes
from novel_agent.processors.parse.fields import FieldReader
from novel_agent.processors.parse.record import LineError

NO_MATCH = "no match"


class RegexParser:
    """Lines of one pattern; `reader` knows which groups are the parts of a record."""

    def __init__(self, pattern: str, reader: FieldReader) -> None:
        import re2

        options = re2.Options()
        options.log_errors = False
        options.dot_nl = True
        compiled = re2.compile(pattern.encode(), options)
        self._match = compiled.match
        self._names = [(name.decode(), index - 1) for name, index in compiled.groupindex.items()]
        self._reader = reader

    def parse(self, line: bytes) -> LogRecord:
        """The record; LineError where the pattern is not found at the beginning."""
        text = line.decode("utf-8", "replace")
        match = self._match(text.encode() if "\ufffd" in text else line)
        if match is None:
            raise LineError(NO_MATCH)
        groups = match.groups()
        fields: Attributes = {}
        for name, index in self._names:
            value = groups[index]
            if value is not None:
                fields[name] = value.decode("utf-8", "replace")
        return self._reader.record(fields, text)
