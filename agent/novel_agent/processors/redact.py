"""Takes secrets and personal data out of spans, on bytes: only what matches is written anew.

Every text of a span is looked at: its name, status message, attributes, those of its events and links, lists and maps
within them, and the attributes of resource and scope. What a built-in pattern cannot match for want of a byte that it
needs is not even taken apart. The built-in patterns take linear time with Python's engine; for those of others see
`processors.patterns`.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from novel_agent.config.schema import Redaction
from novel_agent.processors.patterns import Compile, compile_re
from novel_agent.processors.span_bytes import Edited, Scope, edited, field, join, split, walk
from novel_agent.wire.protobuf import WireError

REDACTED = "[redacted]"
_REDACTED_VALUE = field(0x0A, REDACTED.encode())
_DEEPEST = 50
"""As deep as the receiver lets values be, which bounds messages within messages to 100."""
_MOST_REMEMBERED = 2048
_LONGEST_REMEMBERED = 256

_KEY, _VALUE = 0x0A, 0x12
_STRING, _ARRAY, _KEY_VALUES = 0x0A, 0x2A, 0x32


class _BuiltIn(NamedTuple):
    """A pattern, what must be found in bytes for it to match at all, and the text with its matches replaced."""

    hint: Callable[[bytes], bool]
    replace: Callable[[str], str]


def _card(match: re.Match[str]) -> str:
    digits = [int(each) for each in match[0] if each.isdecimal()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return match[0] if (sum(digits[-1::-2]) + sum(doubled)) % 10 else REDACTED


# None of these has two ways to match the same text: what repeats is bounded, or starts only where a token starts, or gives
# nothing back (`+`+). So each is linear.
_URL_PASSWORD = re.compile(r"(://[^\s/?#:@]*+:)[^\s/?#]*@")
_BEARER = re.compile(r"(?<![A-Za-z0-9])([Bb][Ee][Aa][Rr][Ee][Rr]\s{1,4})[A-Za-z0-9._~+/=-]{8,}+")
_NAMED_KEY = re.compile(
    r"((?:api[_-]?key|access[_-]?key|secret[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret)[\"']?"
    r"\s{0,3}[:=]\s{0,3}[\"']?)[^\s\"'&,;]{8,}+",
    re.IGNORECASE | re.ASCII,
)
_KEY_FORMATS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # AWS
    r"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,255}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,255}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}|sk-[A-Za-z0-9_-]{20,255}"
    r"|AIza[A-Za-z0-9_-]{35})"
)
_WEB_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,20}PRIVATE KEY-----)?")
_CARD = re.compile(r"(?<![0-9A-Za-z])(?:[3-6]|2[ -]?[2-7])(?:[ -]?[0-9]){11,18}(?![0-9A-Za-z])")
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]++@[\w-]++(?:\.[\w-]++)+")


_KEY_NEEDLES = (
    *(b"akia", b"asia", b"abia", b"acca", b"aiza", b"eyj"),
    *(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"xox", b"k_live_", b"k_test_", b"sk-"),
    *(b"key", b"token", b"secret"),
)
_DIGITS = bytes(0x30 if byte in b"0123456789" else 0x2E for byte in range(256))


def _has_key(content: bytes) -> bool:
    lower = content.lower()
    return any(needle in lower for needle in _KEY_NEEDLES)


def _has_card(content: bytes) -> bool:
    return b"0" * 12 in content.translate(_DIGITS, b" -")


def _keys(text: str) -> str:
    for pattern in (_KEY_FORMATS, _WEB_TOKEN, _PRIVATE_KEY):
        text = pattern.sub(REDACTED, text)
    return _NAMED_KEY.sub(rf"\1{REDACTED}", text)


_BUILT_IN: Mapping[str, _BuiltIn] = {
    "url_password": _BuiltIn(
        lambda content: b"://" in content and b"@" in content, lambda text: _URL_PASSWORD.sub(rf"\1{REDACTED}@", text)
    ),
    "bearer": _BuiltIn(lambda content: b"bearer" in content.lower(), lambda text: _BEARER.sub(rf"\1{REDACTED}", text)),
    "key": _BuiltIn(_has_key, _keys),
    "card": _BuiltIn(_has_card, lambda text: _CARD.sub(_card, text)),
    "email": _BuiltIn(lambda content: b"@" in content, lambda text: _EMAIL.sub(REDACTED, text)),
}
"""In the order in which they are applied: a password in a URL may look like part of an address."""


class Redactor:
    """Replaces what is configured by `[redacted]`; of a text the part that matches, of a named attribute the whole value."""

    def __init__(self, config: Redaction, compile_regex: Compile = compile_re) -> None:
        self._names = [compile_regex(pattern) for pattern in config.attributes]
        self._values = [compile_regex(pattern) for pattern in config.values]
        self._built_in = [each for name, each in _BUILT_IN.items() if name in config.patterns]
        self._always = bool(self._names or self._values)
        self._possible = self._built_in
        self._remembered: dict[bytes, bytes | None] = {}
        self._changes = 0
        self._span_edits = {
            0x2A: self._text,
            0x4A: self._attribute,
            0x5A: self._inner({0x12: self._text, 0x1A: self._attribute}),
            0x6A: self._inner({0x22: self._attribute}),
            0x7A: self._inner({0x12: self._text}),
        }
        self._resource_edits = {0x0A: self._inner({0x0A: self._attribute})}
        self._scope_edits = {0x0A: self._inner({0x1A: self._attribute})}

    def __call__(self, payload: bytes) -> Edited:
        """The traces payload without what is to be taken out, and how many values were changed."""
        self._changes = 0
        self._possible = [each for each in self._built_in if each.hint(payload)]
        if not self._possible and not self._always:
            return Edited(payload, 0)
        resources = split(payload)
        for number, resource in enumerate(resources):
            for index, scope in enumerate(resource.scopes):
                spans = [self._part(span, self._span_edits) for span in scope.spans]
                resource.scopes[index] = Scope(self._part(scope.rest, self._scope_edits), spans)
            resources[number] = resource._replace(rest=self._part(resource.rest, self._resource_edits))
        return Edited(join(resources), self._changes) if self._changes else Edited(payload, 0)

    def _part(self, message: bytes, edits: Mapping[int, Callable[[bytes], bytes]]) -> bytes:
        if self._always or any(each.hint(message) for each in self._possible):
            return edited(message, edits)
        return message

    def _inner(self, edits: Mapping[int, Callable[[bytes], bytes]]) -> Callable[[bytes], bytes]:
        return lambda message: edited(message, edits)

    def _attribute(self, content: bytes) -> bytes:
        """A KeyValue; what was seen lately is looked up."""
        try:
            after = self._remembered[content]
        except KeyError:
            redacted = self._key_value(content, 0)
            after = None if redacted is content else redacted
            if len(content) <= _LONGEST_REMEMBERED:
                if len(self._remembered) >= _MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[content] = after
        if after is None:
            return content
        self._changes += 1
        return after

    def _text(self, content: bytes) -> bytes:
        """A text of its own."""
        after = self._replaced(content)
        if after is not content:
            self._changes += 1
        return after

    def _key_value(self, content: bytes, depth: int) -> bytes:
        if self._names:
            key = b""
            for tag, _, start, stop in walk(content):
                if tag == _KEY:
                    key = content[start:stop]
            name = key.decode("utf-8", "replace")
            if any(pattern.fullmatch(name) for pattern in self._names):
                return edited(content, {_VALUE: _hidden})
        return edited(content, {_VALUE: lambda value: self._value(value, depth + 1)})

    def _value(self, content: bytes, depth: int) -> bytes:
        """An AnyValue."""
        if depth > _DEEPEST:
            raise WireError(f"values nested deeper than {_DEEPEST}")
        return edited(
            content,
            {
                _STRING: self._replaced,
                _ARRAY: lambda values: edited(values, {0x0A: lambda value: self._value(value, depth + 1)}),
                _KEY_VALUES: lambda pairs: edited(pairs, {0x0A: lambda pair: self._key_value(pair, depth + 1)}),
            },
        )

    def _replaced(self, content: bytes) -> bytes:
        """A text with every match replaced; the same object where there is none."""
        built_in = [each for each in self._built_in if each.hint(content)]
        if not built_in and not self._values:
            return content
        before = text = content.decode("utf-8", "surrogateescape")
        for each in built_in:
            text = each.replace(text)
        for pattern in self._values:
            text, _ = pattern.subn(REDACTED, text)
        return content if text == before else text.encode("utf-8", "surrogateescape")


def _hidden(value: bytes) -> bytes:
    return value if value == _REDACTED_VALUE else _REDACTED_VALUE
