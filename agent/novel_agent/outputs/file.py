"""OTLP JSON lines in a file: one export request a line.

The Collector's file exporter writes such files and its otlpjsonfile receiver reads them. Batches that come while the disk is at
work are written and synced together. A batch is delivered when the disk has it; where it cannot be written (no space, no
permission any more) it is to be sent again.
"""

import asyncio
from functools import partial

from novel_agent.config.schema import Export
from novel_agent.errors import ConfigError, OutputRejected, OutputUnavailable
from novel_agent.model.batch import Batch, Signal
from novel_agent.outputs.body import made
from novel_agent.outputs.lines_file import Limits, LinesFile
from novel_agent.outputs.output import Delivered
from novel_agent.wire.otlp_json import request_to_json
from novel_agent.wire.protobuf import WireError

_BEGIN = b'{"resource'
_JSON_OFF_LOOP_BYTES = 8 << 10

_Waiting = tuple[bytes, "asyncio.Future[None]"]


class FileOutput:
    """One file; what of it was put aside is beside it, as `PATH.1.gz`, `PATH.2.gz` and so on, the youngest first."""

    in_order = False

    def __init__(self, config: Export) -> None:
        self._key = f"export.{config.name}.path"
        if not config.path:
            raise ConfigError("configuration", 0, self._key, "is missing")
        rotate = config.rotate
        self._file = LinesFile(config.path, Limits(rotate.size_bytes, rotate.keep, rotate.compress), _BEGIN)
        self._started = False
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """ConfigError where the path is nothing that can be written to."""
        try:
            await asyncio.to_thread(self._file.check)
        except OSError as error:
            raise ConfigError(self._file.path, 0, self._key, f"cannot be written: {error.strerror}") from None
        self._started = True

    async def stop(self) -> None:
        self._started = False
        while self._writing is not None:
            await asyncio.wait([self._writing])
        self._file.close()

    async def send(self, batch: Batch) -> Delivered:
        line = await made(partial(_line, batch.signal), batch.payload, _JSON_OFF_LOOP_BYTES)
        if not self._started:
            raise OutputUnavailable(f"{self._file.path}: not started")
        if not batch.payload:
            return await self._look()
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((line, written))
        if self._writing is None:
            self._begin()
        await written
        return Delivered(len(line))

    async def _look(self) -> Delivered:
        try:
            await asyncio.to_thread(self._file.check)
        except OSError as error:
            raise self._unavailable(error) from None
        return Delivered(0)

    def _begin(self) -> None:
        """Write all that waits, in a thread. It goes on to its end even where whoever waits is cancelled."""
        group, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(None, self._file.append, [line for line, _ in group])
        self._writing.add_done_callback(partial(self._end, group))

    def _end(self, group: list[_Waiting], writing: "asyncio.Future[None]") -> None:
        self._writing = None
        error = writing.exception()
        for _, written in group:
            if written.done():  # cancelled
                continue
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(self._unavailable(error) if isinstance(error, OSError) else error)
        if self._waiting:
            self._begin()

    def _unavailable(self, error: OSError) -> OutputUnavailable:
        return OutputUnavailable(f"{self._file.path}: {error.strerror}")


def _line(signal: Signal, payload: bytes) -> bytes:
    try:
        return request_to_json(signal, payload) + b"\n"
    except WireError as error:
        raise OutputRejected(f"the batch is not OTLP: {error}", reason="malformed") from None
