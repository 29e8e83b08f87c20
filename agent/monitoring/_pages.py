"""The page `/metrics`."""

import asyncio
import gzip
from collections.abc import MutableMapping
from typing import Any

_COMPRESSED_FROM_BYTES = 4096


async def metrics_page(_path: str, scope: MutableMapping[str, Any]) -> tuple[int, str, bytes, bool]:
    """Made in a thread, so that the loop goes on while it is rendered."""
    headers = dict(scope["headers"])
    accept = headers.get(b"accept", b"").decode("latin-1")
    compressed = b"gzip" in headers.get(b"accept-encoding", b"")
    return await asyncio.get_running_loop().run_in_executor(None, _made, accept, compressed)


def _made(accept: str, may_compress: bool) -> tuple[int, str, bytes, bool]:
    from monitoring._exposition import answer

    body, content_type = answer(accept)
    is_compressed = may_compress and len(body) >= _COMPRESSED_FROM_BYTES
    return 200, content_type, gzip.compress(body, 1) if is_compressed else body, is_compressed
