"""Secrets as they may be shown: not at all."""

import re

MASK = "********"

_USER_INFO = re.compile(r"(?<=://)(?:([^/?#@\s:]*):)?[^/?#@\s]*(?=@)")
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&][^=&#\s]*(?:token|key|secret|password|passwd|signature|credential|auth)[^=&#\s]*=)[^&#\s]+"
)


def mask_url(text: str) -> str:
    """The text with the credentials of every URL in it masked: `https://me:********@host/?token=********`."""
    if "://" not in text:
        return text
    hidden = _USER_INFO.sub(lambda match: f"{match[1]}:{MASK}" if match[1] else MASK, text)
    return _SECRET_PARAMETER.sub(rf"\g<1>{MASK}", hidden)
