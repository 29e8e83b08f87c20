"""How mistakes are worded: values quoted short and without secrets, the nearest right word, lists of words."""

from collections.abc import Iterable

from novel_agent.config.masking import mask_address

_LONGEST_QUOTE = 60


def quoted(text: str) -> str:
    """A value as an error shows it: one line, not long, no credentials."""
    shown = mask_address(text)
    if len(shown) > _LONGEST_QUOTE:
        shown = shown[: _LONGEST_QUOTE - 1] + "…"
    return f'"{escaped(shown)}"'


def escaped(text: str) -> str:
    """The text with what is not printable as YAML and Python write it."""
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant; None where none is near."""
    from difflib import get_close_matches

    plain = {_plain(each): each for each in known}
    near = [_plain(word)] if _plain(word) in plain else get_close_matches(_plain(word), plain, 1, 0.6)
    return plain[near[0]] if near else None


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def listing(words: Iterable[str], last_joined_by: str = "and") -> str:
    """Words with commas between, `and` or another word before the last."""
    *most, last = words
    return f"{', '.join(most)} {last_joined_by} {last}" if most else last


def suggestion(word: str, known: Iterable[str], *, most_listed: int = 12) -> str:
    """`did you mean …?` or, where nothing is near, what there is."""
    words = list(known)
    near = nearest(word, words)
    if near is not None:
        return f"did you mean {near}?"
    if not words:
        return "none is known here"
    if len(words) > most_listed:
        return f"none of the {len(words)} known ones is near it; the reference lists them"
    return f"known here: {', '.join(words)}" if len(words) > 1 else f"only {words[0]} is known here"
