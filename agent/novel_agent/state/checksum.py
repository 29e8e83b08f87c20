"""CRC32C (RFC 3720, appendix B.4), from the compiled module of the package `crc32c` alone.

The package's own `__init__` loads importlib.metadata, csv and zipfile for a command line of its own: 0.6 MiB on every host.
"""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crc32c import crc32c
else:

    def _enter():
        known = sys.modules.get("crc32c")
        if known is not None:
            return known.crc32c
        sys.modules["crc32c"] = module_from_spec(find_spec("crc32c"))
        try:
            return import_module("crc32c._crc32c").crc32c
        finally:
            del sys.modules["crc32c"]  # whoever asks for the package itself gets it whole

    crc32c = _enter()

__all__ = ["crc32c"]
