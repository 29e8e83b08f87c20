"""Takes secrets out of encoded log lines; those without any cost one look at their bytes.

A value whose key says that it is a secret is replaced whole; in texts, what looks like one: credentials in URLs, bearer and web
tokens, keys of well-known formats, `password=…`, private keys. The patterns take linear time: what repeats is bounded, or gives
nothing back (`+`+).
"""

import re
from functools import lru_cache

import msgspec

REDACTED = "[redacted]"

_NEEDLES = (
    *(b"passw", b"passphrase", b"secret", b"token", b"authorization", b"cookie", b"credential", b"private", b"bearer"),
    *(
        b"api_key",
        b"apikey",
        b"api-key",
        b"access_key",
        b"accesskey",
        b"access-key",
        b"card_number",
        b"cvv",
        b"ssn",
        b"eyj",
    ),
    *(
        b"akia",
        b"asia",
        b"ghp_",
        b"gho_",
        b"ghs_",
        b"github_pat_",
        b"glpat-",
        b"xox",
        b"k_live_",
        b"k_test_",
        b"sk-",
        b"aiza",
    ),
    b"://",
)
_NEEDLE = re.compile(b"|".join(map(re.escape, _NEEDLES)))
_SECRET_KEY = re.compile(
    r"(?:.*[_.-])?(?:password|passwd|passphrase|pwd|secret|token|authorization|cookie|credentials?|api[_-]?key|apikey"
    r"|(?:access|secret|private|signing|encryption)[_-]?key|card[_-]?number|cvv|ssn)",
    re.DOTALL,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_PATTERNS = (
    re.compile(r"(://[^\s/?#:@]*+:)[^\s/?#@]*@"),
    re.compile(r"(?<![A-Za-z0-9])([Bb][Ee][Aa][Rr][Ee][Rr]\s{1,4})[A-Za-z0-9._~+/=-]{8,}+"),
    re.compile(
        r"(?i:((?:passwords?|passwd|passphrase|secret|api[_-]?key|(?:access|secret|private)[_-]?key|(?:access|auth|refresh)[_-]?token"
        r"|token|authorization)[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:(?:basic|bearer)\s{1,4})?))[^\s\"'&,;]{1,4096}"
    ),
    re.compile(
        r"(?<![A-Za-z0-9])()(?:(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|gh[pousr]_[A-Za-z0-9]{36,255}"
        r"|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20,255}|xox[abeoprs]-[A-Za-z0-9-]{10,255}"
        r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}|sk-[A-Za-z0-9_-]{20,255}|AIza[A-Za-z0-9_-]{35})"
    ),
    re.compile(r"(?<![A-Za-z0-9_-])()eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+"),
    re.compile(r"()-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,20}PRIVATE KEY-----)?"),
)


@lru_cache(maxsize=2048)
def is_secret(key: str) -> bool:
    """Whether values of this key are not for others to read: `password`, `db_password`, `accessToken`; not `token_count`."""
    return _SECRET_KEY.fullmatch(_CAMEL.sub("_", key[-200:]).lower()) is not None


def redact_text(text: str) -> str:
    """The text with what looks like a secret replaced."""
    for pattern in _PATTERNS:
        text = pattern.sub(_replacement, text)
    return text


def _replacement(match: re.Match[str]) -> str:
    return f"{match[1]}{REDACTED}" + ("@" if match[0].endswith("@") and match[1].startswith("://") else "")


def redact(value: object) -> object:
    """The same of a decoded JSON value, within mappings and lists."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {
            key: REDACTED if is_secret(key) and inner is not None and not isinstance(inner, bool) else redact(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [redact(inner) for inner in value]
    return value


def redact_members(members: bytes) -> bytes:
    """Members of a JSON object as they stand between its braces, with no secret that is known as one."""
    if _NEEDLE.search(members.lower()) is None:
        return members
    return msgspec.json.encode(redact(msgspec.json.decode(b"{%b}" % members)))[1:-1]
