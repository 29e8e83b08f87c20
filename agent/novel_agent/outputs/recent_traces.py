"""The traces that were seen last, in memory: payloads as they came, and an index only while somebody looks.

`add` appends and evicts, nothing more. The first question reads everything held into pages (`outputs.trace_index`), the
next ones what has come since; the index goes a minute after the last question, so an agent that nobody asks holds no
decoded data. All of it is bounded: payloads by their bytes, the index by twice that, an answer by its traces and spans.
Work that takes long goes in slices of a few milliseconds, between which the event loop has its turn.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from novel_agent.model.span import KINDS, STATUS_ERROR, STATUS_OK, UNSPECIFIED, Span
from novel_agent.model.value import Origin, Value, as_text
from novel_agent.outputs.trace_index import EMPTY, NO_SPAN, Operation, Pace, Page, PageReader, Row, Shared, Source
from novel_agent.wire.otlp_read import origin_of, read_span
from novel_agent.wire.protobuf import WireError

KEPT_SECONDS = 60.0
SEARCHES_AT_A_TIME = 2
WAIT_SECONDS = 5.0
SEARCH_SECONDS = 30.0
"""A search takes some 20 µs a span that it decodes, and up to a few hundred bytes for every trace held."""
MOST_SPANS = 10_000
"""Of one trace are shown, of the payloads that came last."""

_OVERHEAD_BYTES = 150
_BYTES_A_TRACE = 256
_INDEX_TIMES_CAPACITY = 2
_SMALLEST_INDEX_BYTES = 1 << 20
_DERIVED_TAGS = frozenset(
    {"span.kind", "error", "otel.status_code", "otel.status_description", "w3c.tracestate", "event"}
)
_SCOPE_TAGS = frozenset({"otel.scope.name", "otel.scope.version"})
_STATUS = {STATUS_OK: "OK", STATUS_ERROR: "ERROR"}


class SpanWanted(msgspec.Struct, frozen=True, kw_only=True):
    """What one span of a trace must be like; times in nanoseconds, bounds belong to it.

    `attributes` are compared as text with those of the span, its resource and its events, and with `span_tags`.
    """

    service: str | None = None
    operation: str | None = None
    attributes: Mapping[str, str] = {}
    shortest_nano: int = 0
    longest_nano: int | None = None
    earliest_unix_nano: int = 0
    latest_unix_nano: int | None = None


class TraceWanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace as a whole must be like; its times are from the start of its first span to the end of its last."""

    shortest_nano: int = 0
    longest_nano: int | None = None
    earliest_unix_nano: int = 0
    latest_unix_nano: int | None = None
    failed: bool = False
    """Only with a span whose status is an error."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A trace from outside. Its root is the span without a parent or, where that is not here, the one that began first."""

    trace_id: bytes
    root: Operation
    start_unix_nano: int
    duration_nano: int
    span_count: int
    error_count: int
    services: list[str]


class Place(NamedTuple):
    """Where a span stands."""

    start_unix_nano: int
    offset: int
    size_bytes: int
    payload: bytes
    source: Source


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace with the places of its spans by their start; `left_out` is how many there are beyond `MOST_SPANS`."""

    summary: Summary
    places: list[Place]
    left_out: int


class _Held(msgspec.Struct):
    """A payload. Its page is None until it is read, and `EMPTY` where it cannot be or may not be any more."""

    payload: bytes
    received_at: float
    page: Page | None = None


class _Tally(msgspec.Struct):
    """A trace while traces are looked for. `fits` is set where one of its spans is as wanted."""

    start_unix_nano: int
    end_unix_nano: int = 0
    failed: bool = False
    fits: bool = False

    def add(self, row: Row) -> None:
        self.start_unix_nano = min(self.start_unix_nano, row.start_unix_nano)
        self.end_unix_nano = max(self.end_unix_nano, row.start_unix_nano + row.duration_nano)
        self.failed = self.failed or bool(row.failed)


class TooBusy(Exception):  # noqa: N818 - an answer, not a fault
    """A search that was not made, or not to its end; `retry_after_seconds` says when to ask again."""

    retry_after_seconds = 5


class RecentTraces:
    """The store. To be used from one event loop."""

    def __init__(
        self,
        capacity_bytes: int,
        kept_seconds: float = KEPT_SECONDS,
        *,
        wait_seconds: float = WAIT_SECONDS,
        search_seconds: float = SEARCH_SECONDS,
    ) -> None:
        self._capacity_bytes = capacity_bytes
        self._kept_seconds = kept_seconds
        self._wait_seconds = wait_seconds
        self._search_seconds = search_seconds
        self._places = asyncio.Semaphore(SEARCHES_AT_A_TIME)
        self._held: deque[_Held] = deque()
        self._indexed: deque[_Held] = deque()
        self._shared = Shared()
        self._pace = Pace()
        self._reading = asyncio.Lock()
        self._queries = 0
        self._timer: asyncio.TimerHandle | None = None
        self.held_bytes = 0
        self.index_bytes = 0
        self.evicted = 0
        self.too_large = 0
        """Payloads that were larger than the whole store."""
        self.undecodable = 0
        """Payloads that were not what they should be."""
        self.beyond_index = 0
        """Payloads that could not be searched, because the index had no room for them."""
        self.slices = 0
        """How often a query let others have a turn."""

    def __len__(self) -> int:
        """Payloads held."""
        return len(self._held)

    @property
    def oldest_received_at(self) -> float | None:
        """When the oldest payload held came, as `add` was told."""
        return self._held[0].received_at if self._held else None

    @property
    def skipped_spans(self) -> int:
        """Spans that the present index leaves out: without valid ids, too large, or of a payload that filled it."""
        return sum(held.page.skipped for held in self._indexed if held.page is not None)

    def add(self, payload: bytes, received_at: float) -> None:
        """Keep a payload of traces as in `model.batch.Batch`; the oldest make room. Copies and decodes nothing."""
        size_bytes = len(payload) + _OVERHEAD_BYTES
        if size_bytes > self._capacity_bytes:
            self.too_large += 1
            return
        self._held.append(_Held(payload, received_at))
        self.held_bytes += size_bytes
        if self.held_bytes > self._capacity_bytes:
            self._evict()

    def resize(self, capacity_bytes: int) -> None:
        """Change how much is held; less evicts the oldest at once."""
        self._capacity_bytes = capacity_bytes
        self._evict()

    def _evict(self) -> None:
        while self.held_bytes > self._capacity_bytes:
            oldest = self._held.popleft()
            self.held_bytes -= len(oldest.payload) + _OVERHEAD_BYTES
            self.evicted += 1
            if self._indexed and self._indexed[0] is oldest:
                self._drop_oldest_page()
            oldest.page = EMPTY

    # index ------------------------------------------------------------------------------------------------------------

    @property
    def _most_index_bytes(self) -> int:
        return max(_SMALLEST_INDEX_BYTES, self._capacity_bytes * _INDEX_TIMES_CAPACITY)

    @asynccontextmanager
    async def _query(self) -> AsyncIterator[list[_Held]]:
        """Everything held, newest first, indexed for as long as this is open."""
        self._queries += 1
        try:
            await self._catch_up()
            yield list(reversed(self._held))
        finally:
            self._queries -= 1
            self._forget_later()

    async def _catch_up(self) -> None:
        """Read what has come since the last question; questions that come together share the work."""
        async with self._reading:
            for held in [each for each in self._held if each.page is None]:
                if held.page is None:  # not evicted in the meantime
                    await self._read(held)

    async def _read(self, held: _Held) -> None:
        reader = PageReader(held.payload, self._shared, self._pace, self._most_index_bytes // 2)
        try:
            for _ in reader.read():
                await self._give_way()
        except WireError:
            self.undecodable += 1
            held.page = EMPTY
        if held.page is not None:
            return
        held.page = page = reader.page()
        self._indexed.append(held)
        self.index_bytes += page.size_bytes
        while self.index_bytes > self._most_index_bytes and len(self._indexed) > 1:
            self._drop_oldest_page().page = EMPTY
            self.beyond_index += 1

    def _drop_oldest_page(self) -> _Held:
        held = self._indexed.popleft()
        assert held.page is not None
        self.index_bytes -= held.page.size_bytes
        return held

    async def _give_way(self) -> None:
        self.slices += 1
        await asyncio.sleep(0)

    def _forget_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._kept_seconds, self._forget)

    def _forget(self) -> None:
        """Drop the index, unless a query needs it: that calls again when it ends."""
        self._timer = None
        if self._queries:
            return
        while self._indexed:
            self._drop_oldest_page().page = None
        self._shared = Shared()

    @asynccontextmanager
    async def search(self) -> AsyncIterator[None]:
        """One of the few places for those who ask: to be held while questions are asked and answers are made.

        TooBusy where none becomes free within `wait_seconds`, or where what is done in it takes longer than `search_seconds`.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise TooBusy(f"{SEARCHES_AT_A_TIME} searches are under way already") from None
        try:
            async with asyncio.timeout(self._search_seconds):
                yield
        except TimeoutError:
            raise TooBusy(f"the search took longer than {self._search_seconds:g} s: ask for less") from None
        finally:
            self._places.release()

    # questions --------------------------------------------------------------------------------------------------------

    async def services(self) -> list[str]:
        """The services there are spans of."""
        return sorted({operation.service for operation in await self._operations()})

    async def operations(self, service: str, kind: int | None = None) -> list[Operation]:
        """What a service does, or what of that kind, by name."""
        found = await self._operations()
        return sorted(each for each in found if each.service == service and kind in (None, each.kind))

    async def _operations(self) -> set[Operation]:
        found: set[Operation] = set()
        async with self._query() as held:
            for _, page in _pages(held):
                found.update(page.operations)
                if self._pace.spend(1 + len(page.operations)):
                    await self._give_way()
        return found

    async def find(self, span: SpanWanted, trace: TraceWanted, limit: int) -> list[Summary]:
        """The traces of which one span and the whole are as wanted, those that began last first.

        Of very many small traces only those that came last are looked at: one for each 256 bytes of the store.
        """
        async with self._query() as held:
            tallies = await self._tally(held, span)
            fitting = [(each.start_unix_nano, id_) for id_, each in tallies.items() if _is_wanted(each, trace)]
            del tallies
            fitting.sort(reverse=True)
            chosen = {trace_id: _Gathered(trace_id, most_places=0) for _, trace_id in fitting[:limit]}
            async for payload, page, row in self._rows(held):
                gathered = chosen.get(row.trace_id)
                if gathered is not None:
                    gathered.add(payload, page, row)
        return [each.summary() for each in chosen.values() if each.count]

    async def trace(self, trace_id: bytes) -> Trace | None:
        """One trace by its 16 bytes; None where there is none."""
        gathered = _Gathered(trace_id, MOST_SPANS)
        async with self._query() as held:
            async for payload, page, row in self._rows(held, trace_id):
                if row.trace_id == trace_id:
                    gathered.add(payload, page, row)
        return gathered.trace() if gathered.count else None

    async def spans(self, trace: Trace) -> AsyncIterator[tuple[Span, Origin]]:
        """The spans of a trace, decoded one after the other; what cannot be is left out. Lets others have turns."""
        for place in trace.places:
            try:
                span = read_span(place.payload[place.offset : place.offset + place.size_bytes])
                origin = origin_of(place.source.resource_fields, place.source.scope_fields)
            except WireError:
                continue
            yield span, origin
            if self._pace.spend(40 + place.size_bytes // 20):
                await self._give_way()

    async def calls(self, earliest_unix_nano: int, latest_unix_nano: int) -> dict[tuple[str, str], int]:
        """How often one service called another: spans that began in that time whose parent is of another service."""
        most = self._most_traces * 2
        service_of: dict[bytes, str] = {}
        counts: dict[tuple[str, str], int] = {}
        async with self._query() as held:
            async for _, page, row in self._rows(held):
                if len(service_of) < most:
                    service_of[row.trace_id + row.span_id] = page.operations[row.operation].service
            async for _, page, row in self._rows(held):
                caller = service_of.get(row.trace_id + row.parent_span_id)
                callee = page.operations[row.operation].service
                if caller in (None, callee) or not earliest_unix_nano <= row.start_unix_nano <= latest_unix_nano:
                    continue
                counts[caller, callee] = counts.get((caller, callee), 0) + 1
        return counts

    @property
    def _most_traces(self) -> int:
        return max(1000, self._capacity_bytes // _BYTES_A_TRACE)

    async def _rows(self, held: list[_Held], trace_id: bytes = b"") -> AsyncIterator[tuple[bytes, Page, Row]]:
        """Every span with its payload; given a trace id only those of pages that have it."""
        for each, page in _pages(held):
            if trace_id in page.records:
                for row in page.rows():
                    yield each.payload, page, row
                    if self._pace.spend(1):
                        await self._give_way()
            if self._pace.spend(1 + len(page.records) // 1000):
                await self._give_way()

    async def _tally(self, held: list[_Held], wanted: SpanWanted) -> dict[bytes, _Tally]:
        most = self._most_traces
        tallies: dict[bytes, _Tally] = {}
        for each, page in _pages(held):
            fitting = _fitting(page, wanted)
            for row in page.rows():
                tally = tallies.get(row.trace_id)
                if tally is None and len(tallies) < most:
                    tally = tallies[row.trace_id] = _Tally(row.start_unix_nano)
                steps = 2
                if tally is not None:
                    tally.add(row)
                    if not tally.fits and row.operation in fitting and _is_in_time(row, wanted):
                        tally.fits = not wanted.attributes or _carries(each.payload, page, row, wanted.attributes)
                        steps += 20 + row.size_bytes // 30 if wanted.attributes else 0
                if self._pace.spend(steps):
                    await self._give_way()
        return tallies


class _Gathered:
    """A trace while its spans are gathered."""

    def __init__(self, trace_id: bytes, most_places: int) -> None:
        self._trace_id = trace_id
        self._most_places = most_places
        self._ids: set[bytes] = set()
        self._places: list[Place] = []
        self._services: set[str] = set()
        self._root: tuple[bool, int, Operation] = (True, 0, Operation("", "", UNSPECIFIED))
        self._start = self._end = self._errors = self.count = 0

    def add(self, payload: bytes, page: Page, row: Row) -> None:
        """One more; what came twice, because a client sent a request again, counts once."""
        if row.span_id in self._ids:
            return
        operation = page.operations[row.operation]
        rank = (row.parent_span_id != NO_SPAN, row.start_unix_nano, operation)
        self._root = min(self._root, rank) if self.count else rank
        self._start = min(self._start, row.start_unix_nano) if self.count else row.start_unix_nano
        self._end = max(self._end, row.start_unix_nano + row.duration_nano)
        self.count += 1
        self._errors += row.failed
        self._services.add(operation.service)
        if len(self._ids) < MOST_SPANS:
            self._ids.add(row.span_id)
        if len(self._places) < self._most_places:
            place = Place(row.start_unix_nano, row.offset, row.size_bytes, payload, page.sources[row.source])
            self._places.append(place)

    def summary(self) -> Summary:
        """What was gathered, from outside."""
        return Summary(
            trace_id=self._trace_id,
            root=self._root[2],
            start_unix_nano=self._start,
            duration_nano=self._end - self._start,
            span_count=self.count,
            error_count=self._errors,
            services=sorted(self._services),
        )

    def trace(self) -> Trace:
        """What was gathered."""
        places = sorted(self._places, key=lambda place: place.start_unix_nano)
        return Trace(summary=self.summary(), places=places, left_out=self.count - len(places))


def span_tags(span: Span, origin: Origin) -> Iterator[tuple[str, Value]]:
    """A span's tags as Jaeger has them: its attributes, and what its other fields become.

    Source: opentelemetry-collector-contrib, pkg/translator/jaeger.
    """
    if origin.scope:
        yield "otel.scope.name", origin.scope
    if origin.scope_version:
        yield "otel.scope.version", origin.scope_version
    yield from span.attributes.items()
    if UNSPECIFIED < span.kind < len(KINDS):
        yield "span.kind", KINDS[span.kind].lower()
    if span.status_code in _STATUS:
        yield "otel.status_code", _STATUS[span.status_code]
    if span.status_code == STATUS_ERROR:
        yield "error", True
    if span.status_message:
        yield "otel.status_description", span.status_message
    if span.trace_state:
        yield "w3c.tracestate", span.trace_state


def _all_tags(span: Span, origin: Origin) -> Iterator[tuple[str, Value]]:
    yield from span_tags(span, origin)
    yield from origin.resource.items()
    for event in span.events:
        yield "event", event.name
        yield from event.attributes.items()


def _carries(payload: bytes, page: Page, row: Row, wanted: Mapping[str, str]) -> bool:
    """Whether a span has these attributes. It is decoded only if the bytes of every key stand in it."""
    source = page.sources[row.source]
    for key in wanted:
        encoded = key.encode()
        if (
            key not in _DERIVED_TAGS
            and key not in _SCOPE_TAGS
            and payload.find(encoded, row.offset, row.offset + row.size_bytes) < 0
            and encoded not in source.resource_fields
        ):
            return False
    try:
        span = read_span(payload[row.offset : row.offset + row.size_bytes])
        tags = {
            (key, as_text(value))
            for key, value in _all_tags(span, origin_of(source.resource_fields, source.scope_fields))
        }
    except WireError:
        return False
    return tags.issuperset(wanted.items())


def _pages(held: list[_Held]) -> Iterator[tuple[_Held, Page]]:
    return ((each, each.page) for each in held if each.page is not None and each.page.records)


def _fitting(page: Page, wanted: SpanWanted) -> set[int]:
    """The operations of a page that are wanted, by index."""
    return {
        index
        for index, each in enumerate(page.operations)
        if wanted.service in (None, each.service) and wanted.operation in (None, each.name)
    }


def _is_in_time(row: Row, wanted: SpanWanted) -> bool:
    return (
        row.duration_nano >= wanted.shortest_nano
        and (wanted.longest_nano is None or row.duration_nano <= wanted.longest_nano)
        and row.start_unix_nano >= wanted.earliest_unix_nano
        and (wanted.latest_unix_nano is None or row.start_unix_nano <= wanted.latest_unix_nano)
    )


def _is_wanted(tally: _Tally, wanted: TraceWanted) -> bool:
    duration = tally.end_unix_nano - tally.start_unix_nano
    return (
        tally.fits
        and (tally.failed or not wanted.failed)
        and duration >= wanted.shortest_nano
        and (wanted.longest_nano is None or duration <= wanted.longest_nano)
        and tally.start_unix_nano >= wanted.earliest_unix_nano
        and (wanted.latest_unix_nano is None or tally.start_unix_nano <= wanted.latest_unix_nano)
    )
