"""What tells one content of a file from another, and which names a file may get when it is rotated."""

import os
import re
from hashlib import blake2b

HEAD_BYTES = 1024
BEFORE_BYTES = 64
_COMPRESSED = (".gz", ".zst")


def digest(content: bytes) -> str:
    """A hash of some bytes, 32 hexadecimal digits."""
    return blake2b(content, digest_size=16).hexdigest()


def uid_of(device: int, inode: int, parent: str, head: bytes) -> str:
    """16 hexadecimal digits for the content of a file that begins so; `parent` is the uid of the content it replaced."""
    newline = head.find(b"\n")
    line = head[: newline + 1] if newline >= 0 else head
    named = f"{device} {inode} {parent}\n".encode() + line[:HEAD_BYTES]
    return blake2b(named, digest_size=8).hexdigest()


def may_be_rotated(name: str, original: str) -> bool:
    """Whether a file called `original` may be called `name` after a rotation.

    Such a name begins with the original one, or with its stem and then something that is neither a letter nor a digit.
    """
    if name == original:
        return False
    stem = stem_of(original)
    return name.startswith(original) or (name.startswith(stem) and not name[len(stem) : len(stem) + 1].isalnum())


def is_surely_rotated(name: str, original: str) -> bool:
    """Whether a name can only be a rotation's: the original one, or its stem, with a number or a date."""
    plain = name.removesuffix(".gz").removesuffix(".zst")
    suffix = original[len(stem_of(original)) :]
    if plain.startswith(original):
        added = plain[len(original) :]
    elif suffix and plain.endswith(suffix) and plain.startswith(stem_of(original)):
        added = plain[len(stem_of(original)) : -len(suffix)]
    else:
        return False
    return bool(_ROTATION.fullmatch(added))


_ROTATION = re.compile(r"[._-][0-9][0-9._:T-]*")


def stem_of(path: str) -> str:
    """A path or name without its suffix: /a/b.log is /a/b; .log is .log."""
    return os.path.splitext(path)[0]


def is_compressed(name: str) -> bool:
    """Whether a name says that a file is compressed, in a way that can be read."""
    return name.endswith(_COMPRESSED)


def printable(path: str) -> str:
    """A path as text that can be encoded; bytes that are no UTF-8 are replaced."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "replace")
