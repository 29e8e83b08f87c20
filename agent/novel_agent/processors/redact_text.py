"""Takes secrets and personal data out of a text: only what matches is written anew.

What a built-in pattern cannot match for want of a byte that it needs is not looked at with it. The built-in patterns take
linear time with Python's engine; for those of others see `processors.patterns`.
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from novel_agent.processors.patterns import Compile, Pattern

REDACTED = "[redacted]"


class BuiltIn(NamedTuple):
    """A pattern, what must be found in bytes for it to match at all, and the text with its matches replaced."""

    hint: Callable[[bytes], bool]
    replace: Callable[[str], str]


def _card(match: re.Match[str]) -> str:
    digits = [int(each) for each in match[0] if each.isdecimal()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return match[0] if (sum(digits[-1::-2]) + sum(doubled)) % 10 else REDACTED


# None of these has two ways to match the same text: what repeats is bounded, or starts only where a token starts, or gives
# nothing back (`+`+). So each is linear.
_QUOTES = r"[\"'\\]{0,4}"
_ASSIGNED = r"\s{0,3}[:=]\s{0,3}"
_VALUE = r"(?:(\\{0,3}\")[^\"\\\n]++|(\\{0,3}')[^'\\\n]++|[^\s\"'&,;\\]++)"
_URL_PASSWORD = re.compile(r"(:(?:\\{0,3}/){2}[^\s/?#:@]*+:)[^\s/?#]*@")
_BEARER = re.compile(r"(?<![A-Za-z0-9])([Bb][Ee][Aa][Rr][Ee][Rr]\s{1,4})[A-Za-z0-9._~+/=-]{8,}+")
_BASIC = re.compile(r"(?<![A-Za-z0-9])([Bb][Aa][Ss][Ii][Cc]\s{1,4})([A-Za-z0-9+/_-]{6,}+={0,2})")
_COOKIE = re.compile(
    rf"((?<![A-Za-z0-9])cookie{_QUOTES}{_ASSIGNED}[\[]?{_QUOTES})[^\s\r\n\"'\\=]{{1,256}}+=[^\r\n\"'\\]*+",
    re.IGNORECASE | re.ASCII,
)
_NAMED_KEY = re.compile(
    r"((?:api[_-]?key|access[_-]?key|secret[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret)"
    rf"{_QUOTES}{_ASSIGNED}{_QUOTES})[^\s\"'&,;\\]{{8,}}+",
    re.IGNORECASE | re.ASCII,
)
_PASSWORD = re.compile(
    rf"((?:passw(?:or)?d|passphrase|(?<![A-Za-z])pwd){_QUOTES}{_ASSIGNED}){_VALUE}", re.IGNORECASE | re.ASCII
)
_TOKEN = re.compile(rf"((?:token|secret)(?:=|[\"'\\]{{1,4}}{_ASSIGNED})){_VALUE}", re.IGNORECASE | re.ASCII)
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
_SEPARATED_CARD = re.compile(
    r"(?<![0-9A-Za-z])(?:[3-6][0-9]{3}([._\t\u00a0]|[ ]{2})[0-9]{4}\1[0-9]{4}\1[0-9]{4}"
    r"|3[0-9]{3}([._\t\u00a0]|[ ]{2})[0-9]{6}\2[0-9]{5})(?![0-9A-Za-z])"
)
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]++@[\w-]++(?:\.[\w-]++)+")
_ESCAPED_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]++%40[\w-]++(?:\.[\w-]++)+")
_CARD_NUMBER = re.compile(r"(?:[3-6]|2[2-7])[0-9]{12,15}")


_KEY_NEEDLES = (
    *(b"akia", b"asia", b"abia", b"acca", b"aiza", b"eyj"),
    *(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"xox", b"k_live_", b"k_test_", b"sk-"),
    *(b"key", b"token", b"secret", b"passw", b"passphrase", b"pwd"),
)
_ANY_KEY_NEEDLE = re.compile(b"|".join(map(re.escape, _KEY_NEEDLES)))
_SHORT = 512
_DIGITS = bytes(0x30 if byte in b"0123456789" else 0x2E for byte in range(256))


def _has_key(content: bytes) -> bool:
    """One pass over what is short; in what is long each needle is found faster by itself."""
    lower = content.lower()
    if len(lower) <= _SHORT:
        return _ANY_KEY_NEEDLE.search(lower) is not None
    return any(needle in lower for needle in _KEY_NEEDLES)


def _has_card(content: bytes) -> bool:
    return b"0" * 12 in content.translate(_DIGITS, b" -._\t\xc2\xa0")


def _cards(text: str) -> str:
    return _SEPARATED_CARD.sub(_card, _CARD.sub(_card, text))


def is_card_number(number: float) -> bool:
    """Whether a number by itself may be that of a card: of 13 to 16 digits, since longer ones are mostly ids."""
    if not 1e12 <= number < 1e16 or number != int(number):
        return False
    text = str(int(number))
    match = _CARD_NUMBER.fullmatch(text)
    return match is not None and _card(match) == REDACTED


def _has_credentials(content: bytes) -> bool:
    lower = content.lower()
    return b"bearer" in lower or b"basic" in lower or b"cookie" in lower


def _credentials(text: str) -> str:
    text = _BEARER.sub(rf"\1{REDACTED}", text)
    return _COOKIE.sub(rf"\1{REDACTED}", _BASIC.sub(_basic, text))


def _basic(match: re.Match[str]) -> str:
    """User and password, in base64 (RFC 7617); a word that follows "basic" is none."""
    encoded = match[2].rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return match[0]
    return f"{match[1]}{REDACTED}" if b":" in decoded else match[0]


def _assigned(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2] or match[3] or ''}{REDACTED}"


def _addresses(text: str) -> str:
    return _ESCAPED_EMAIL.sub(REDACTED, _EMAIL.sub(REDACTED, text))


def _keys(text: str) -> str:
    for pattern in (_KEY_FORMATS, _WEB_TOKEN, _PRIVATE_KEY):
        text = pattern.sub(REDACTED, text)
    text = _NAMED_KEY.sub(rf"\1{REDACTED}", text)
    return _TOKEN.sub(_assigned, _PASSWORD.sub(_assigned, text))


_BUILT_IN: Mapping[str, BuiltIn] = {
    "url_password": BuiltIn(
        lambda content: b"@" in content and (b"://" in content or b"\\/" in content),
        lambda text: _URL_PASSWORD.sub(rf"\1{REDACTED}@", text),
    ),
    "bearer": BuiltIn(_has_credentials, _credentials),
    "key": BuiltIn(_has_key, _keys),
    "card": BuiltIn(_has_card, _cards),
    "email": BuiltIn(lambda content: b"@" in content or b"%40" in content, _addresses),
}
"""In the order in which they are applied: a password in a URL may look like part of an address."""


class TextRedactor:
    """Replaces by `[redacted]` what the named built-in patterns and further regular expressions match."""

    def __init__(self, patterns: Iterable[str], values: Iterable[str], compile_regex: Compile) -> None:
        self.built_in: Sequence[BuiltIn] = [each for name, each in _BUILT_IN.items() if name in set(patterns)]
        self.values: Sequence[Pattern] = [compile_regex(pattern) for pattern in values]

    def of_bytes(self, content: bytes) -> bytes:
        """A text with every match replaced; the same object where there is none. What is not UTF-8 in it stays."""
        return self._of_bytes(content, self.values)

    def of_name(self, content: bytes) -> bytes:
        """The same with the built-in patterns alone, of what names a value: further ones were written for values."""
        return self._of_bytes(content, ())

    def _of_bytes(self, content: bytes, values: Sequence[Pattern]) -> bytes:
        built_in = [each for each in self.built_in if each.hint(content)]
        if not built_in and not values:
            return content
        before = content.decode("utf-8", "surrogateescape")
        text = self._replaced(before, built_in, values)
        return content if text == before else text.encode("utf-8", "surrogateescape")

    def of_text(self, text: str) -> str:
        """The same of a text that is decoded."""
        content = text.encode("utf-8", "replace")
        built_in = [each for each in self.built_in if each.hint(content)]
        return self._replaced(text, built_in, self.values) if built_in or self.values else text

    def _replaced(self, text: str, built_in: Iterable[BuiltIn], values: Iterable[Pattern]) -> str:
        for each in built_in:
            text = each.replace(text)
        for pattern in values:
            replaced, found = pattern.subn(REDACTED, _encodable(text))
            text = replaced if found else text
        return text


def _encodable(text: str) -> str:
    """The text without surrogates, which stand for bytes that are not UTF-8 and which RE2 refuses."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
