"""Which entries are asked of journalctl, by its options and matches.

Units are matched as `journalctl -u` does it: what their processes wrote, what the service manager says about them, what
privileged processes say about them, and their core dumps (systemd, shared/logs-show.c: add_matches_for_unit).
"""

from novel_agent.config.schema import Journal
from novel_agent.errors import InputError

_LOWEST_PRIORITY = {"fatal": 0, "error": 3, "warn": 4, "info": 6, "debug": 7, "trace": 7}
"""The syslog level that is still in a severity's range or above; what has no level is not."""

_KERNEL = "_TRANSPORT=kernel"
_COREDUMP = "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1"
_SUFFIXES = (
    ".service", ".socket", ".target", ".device", ".mount", ".automount", ".swap", ".timer", ".path", ".slice", ".scope",
)  # fmt: skip
_OF_PATTERNS = frozenset("*?[")


def arguments(settings: Journal) -> list[str]:
    """Options and matches, in the order in which journalctl wants them. Raises InputError of what it cannot be asked."""
    made = [] if settings.directory is None else [f"--directory={settings.directory}"]
    if settings.min_severity is not None:
        made.append(f"--priority={_LOWEST_PRIORITY[settings.min_severity]}")
    if settings.kernel and (settings.units or settings.identifiers):
        return [*made, *_with_kernel(settings)]
    made += [f"--unit={unit}" for unit in settings.units]
    made += [f"--identifier={identifier}" for identifier in settings.identifiers]
    return made


def _with_kernel(settings: Journal) -> list[str]:
    """Written out as matches: options can only narrow each other, never add the kernel's messages."""
    if any(_OF_PATTERNS & set(unit) for unit in settings.units):
        raise InputError("units with * or ? do not go together with kernel: write a source of its own for the kernel")
    identifiers = [f"SYSLOG_IDENTIFIER={identifier}" for identifier in settings.identifiers]
    alternatives = [[*terms, *identifiers] for unit in settings.units for terms in _of_unit(_whole(unit))] or [
        identifiers
    ]
    alternatives.append([_KERNEL])
    made = alternatives[0]
    for alternative in alternatives[1:]:
        made = [*made, "+", *alternative]
    return made


def _of_unit(unit: str) -> list[list[str]]:
    terms = [
        [f"_SYSTEMD_UNIT={unit}"],
        ["_PID=1", f"UNIT={unit}"],
        ["_UID=0", f"OBJECT_SYSTEMD_UNIT={unit}"],
        [_COREDUMP, "_UID=0", f"COREDUMP_UNIT={unit}"],
    ]
    return [*terms, [f"_SYSTEMD_SLICE={unit}"]] if unit.endswith(".slice") else terms


def _whole(unit: str) -> str:
    return unit if unit.endswith(_SUFFIXES) else f"{unit}.service"
