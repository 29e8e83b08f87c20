"""What /proc/net/rpc/nfs and /proc/net/rpc/nfsd have in common (net/sunrpc/stats.c): lines of a label and numbers."""

from collections.abc import Iterable, Mapping

# The procedures of NFS 2 and 3 in the order of their numbers (RFC 1094, RFC 1813), as node_exporter spells them.
PROCEDURES_2 = (  # noqa: SIM905 - a list of words
    "Null GetAttr SetAttr Root Lookup ReadLink Read WrCache Write Create Remove Rename Link SymLink MkDir RmDir ReadDir FsStat"
).split()
PROCEDURES_3 = (  # noqa: SIM905 - a list of words
    "Null GetAttr SetAttr Lookup Access ReadLink Read Write Create MkDir SymLink MkNod Remove RmDir Rename Link ReadDir"
    " ReadDirPlus FsStat FsInfo PathConf Commit"
).split()

Lines = Mapping[bytes, list[int]]


def parse_lines(data: bytes, numbers_of: Mapping[bytes, int]) -> dict[bytes, list[int]]:
    """The numbers of the lines named, each with at least as many as demanded; a line that is missing is all 0.

    Lines of other names are passed over: new kernels add some. A line `procN` begins with how many numbers follow.
    """
    found: dict[bytes, list[int]] = {}
    for line in data.splitlines():
        label, *fields = line.split() or (b"",)
        if label in numbers_of:
            fewest = numbers_of[label]
            # The kernel writes the rest of the line "th" as decimal fractions.
            numbers = [int(field) for field in (fields[:fewest] if label == b"th" else fields)]
            if label.startswith(b"proc"):
                numbers = _counted(label, numbers)
            if len(numbers) < fewest:
                raise ValueError(f"too few numbers in line {label.decode()} of RPC statistics")
            found[label] = numbers
    if not found:
        raise ValueError("no known line in RPC statistics")
    return {label: found.get(label) or [0] * fewest for label, fewest in numbers_of.items()}


def _counted(label: bytes, numbers: list[int]) -> list[int]:
    count, *counted = numbers or (-1,)
    if count != len(counted):
        raise ValueError(f"line {label.decode()} of RPC statistics is incomplete")
    return counted


def padded(numbers: Iterable[int], length: int) -> list[int]:
    """Exactly `length` numbers: an older kernel's missing ones are 0, a newer one's further ones are left out."""
    row = list(numbers)[:length]
    return row + [0] * (length - len(row))
