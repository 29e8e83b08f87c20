"""Secrets as they may be shown: not at all."""

import re

MASK = "********"

_HOST_PORT = r"(?:\[[^\]\s]*\]|[^/?#@\s:]*)(?::[0-9]*)?(?:[/?#\s]|$)"
_USER_INFO = re.compile(rf"(?<=://)(?!{_HOST_PORT})(?:([^/?#@\s:]*):)?\S*(?=@)")
"""To the last @: a password may hold an @, a slash or a # that somebody forgot to percent-encode."""
_BARE_USER_INFO = re.compile(r"(?<!\S)([^/?#@\s:]+):\S*(?=@)")
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&][^=&#\s]*(?:token|key|secret|password|passwd|signature|credential|auth)[^=&#\s]*=)[^&#\s]+"
)


def mask_url(text: str) -> str:
    """The text with the credentials of every URL in it masked: `https://me:********@host/?token=********`."""
    if "://" not in text:
        return text
    hidden = _USER_INFO.sub(lambda match: f"{match[1]}:{MASK}" if match[1] else MASK, text) if "@" in text else text
    return _SECRET_PARAMETER.sub(rf"\g<1>{MASK}", hidden)


def mask_address(text: str) -> str:
    """The same, also where the URL was written without its scheme: `me:********@host`."""
    return mask_url(text) if "://" in text else _BARE_USER_INFO.sub(rf"\g<1>:{MASK}", text)
