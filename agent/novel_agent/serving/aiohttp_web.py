"""aiohttp's server without its client.

`import aiohttp` runs the package's `__init__`, which loads the client: about 4 MiB that an agent without an HTTP output
never uses. Here the package is entered without running it. Its modules import each other as ever; whoever asks `aiohttp`
itself for a name (`aiohttp.ClientSession`) runs the real `__init__` at that moment and notices nothing.
"""

import sys
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import web
else:

    def _enter() -> None:
        spec = find_spec("aiohttp")
        package = module_from_spec(spec)
        package.__version__ = _version(spec.origin)

        def run_init(name: str) -> Any:
            if find_spec(f"aiohttp.{name}") is not None:
                raise AttributeError(name)  # the import system loads the module then
            del package.__getattr__
            spec.loader.exec_module(package)
            return getattr(package, name)

        package.__getattr__ = run_init
        sys.modules["aiohttp"] = package

    def _version(init_file: str) -> str:
        with open(init_file, encoding="utf-8") as file:
            assignments = [line for line in file if line.startswith("__version__ = ")]
        return assignments[0].split('"')[1] if assignments else ""

    if "aiohttp" not in sys.modules:
        _enter()
    from aiohttp import web

__all__ = ["web"]
