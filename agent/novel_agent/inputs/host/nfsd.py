"""The NFS server's RPCs from /proc/net/rpc/nfsd (fs/nfsd/stats.c, net/sunrpc/stats.c)."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import read_or_no_data
from novel_agent.inputs.host.sunrpc import PROCEDURES_2, PROCEDURES_3, padded, parse_lines
from novel_agent.model.metric import Block, Family, Number, Series

# Operations 3 to 39 of NFS 4.0 (RFC 7530), as node_exporter spells them; - where it shows none.
_OPERATIONS_4 = (  # noqa: SIM905 - a list of words
    "Access Close Commit Create DelegPurge DelegReturn GetAttr GetFH Link Lock Lockt Locku Lookup LookupRoot Nverify Open"
    " OpenAttr OpenConfirm OpenDgrd PutFH - - Read ReadDir ReadLink Remove Rename Renew RestoreFH SaveFH SecInfo SetAttr"
    " SetClientID SetClientIDConfirm Verify Write RelLockOwner"
).split()
# Operations 3 to 75 as RFC 7530, 8881, 7862 and 8276 name them.
_RFC_OPERATIONS_4 = (  # noqa: SIM905 - a list of words
    "ACCESS CLOSE COMMIT CREATE DELEGPURGE DELEGRETURN GETATTR GETFH LINK LOCK LOCKT LOCKU LOOKUP LOOKUPP NVERIFY OPEN"
    " OPENATTR OPEN_CONFIRM OPEN_DOWNGRADE PUTFH PUTPUBFH PUTROOTFH READ READDIR READLINK REMOVE RENAME RENEW RESTOREFH SAVEFH"
    " SECINFO SETATTR SETCLIENTID SETCLIENTID_CONFIRM VERIFY WRITE RELEASE_LOCKOWNER BACKCHANNEL_CTL BIND_CONN_TO_SESSION"
    " EXCHANGE_ID CREATE_SESSION DESTROY_SESSION FREE_STATEID GET_DIR_DELEGATION GETDEVICEINFO GETDEVICELIST LAYOUTCOMMIT"
    " LAYOUTGET LAYOUTRETURN SECINFO_NO_NAME SEQUENCE SET_SSV TEST_STATEID WANT_DELEGATION DESTROY_CLIENTID RECLAIM_COMPLETE"
    " ALLOCATE COPY COPY_NOTIFY DEALLOCATE IO_ADVISE LAYOUTERROR LAYOUTSTATS OFFLOAD_CANCEL OFFLOAD_STATUS READ_PLUS SEEK"
    " WRITE_SAME CLONE GETXATTR SETXATTR LISTXATTRS REMOVEXATTR"
).split()
_FIRST_OPERATION = 3
_FEWEST_OPERATIONS = 39
_LINES = {
    b"rc": 3,
    b"fh": 1,
    b"io": 2,
    b"th": 1,
    b"net": 4,
    b"rpc": 5,
    b"proc2": len(PROCEDURES_2),
    b"proc3": len(PROCEDURES_3),
    b"proc4ops": _FEWEST_OPERATIONS,
    b"wdeleg_getattr": 1,
    b"ra": 12,
}


def _nfsd(name: str, help_text: str, *labels: str) -> Family:
    return Family(f"node_nfsd_{name}", help_text, "counter", labels)


REPLY_CACHE_HITS = _nfsd(
    "reply_cache_hits_total", "Total number of NFSd Reply Cache hits (client lost server response)."
)
REPLY_CACHE_MISSES = _nfsd(
    "reply_cache_misses_total", "Total number of NFSd Reply Cache an operation that requires caching (idempotent)."
)
REPLY_CACHE_NOCACHE = _nfsd(
    "reply_cache_nocache_total", "Total number of NFSd Reply Cache non-idempotent operations (rename/delete/…)."
)
STALE_HANDLES = _nfsd("file_handles_stale_total", "Total number of NFSd stale file handles")
BYTES_READ = _nfsd("disk_bytes_read_total", "Total NFSd bytes read.")
BYTES_WRITTEN = _nfsd("disk_bytes_written_total", "Total NFSd bytes written.")
THREADS = Family("node_nfsd_server_threads", "Total number of NFSd kernel threads that are running.")
READ_AHEAD_SIZE = Family("node_nfsd_read_ahead_cache_size_blocks", "How large the read ahead cache is in blocks.")
READ_AHEAD_NOT_FOUND = _nfsd("read_ahead_cache_not_found_total", "Total number of NFSd read ahead cache not found.")
PACKETS = _nfsd("packets_total", "Total NFSd network packets (sent+received) by protocol type.", "proto")
CONNECTIONS = _nfsd("connections_total", "Total number of NFSd TCP connections.")
RPC_ERRORS = _nfsd("rpc_errors_total", "Total number of NFSd RPC errors by error type.", "error")
RPCS = _nfsd("server_rpcs_total", "Total number of NFSd RPCs.")
REQUESTS = _nfsd("requests_total", "Total number NFSd Requests by method and protocol.", "proto", "method")


def _otel(name: str, help_text: str, unit: str, *labels: str) -> Family:
    return Family(f"nfs.server.{name}", f"Reports the {help_text}", "counter", labels, unit=unit)


OTEL_REPLY_CACHE = _otel(
    "repcache.requests",
    "kernel NFS server reply cache request count by cache hit status",
    "{request}",
    "nfs.server.repcache.status",
)
OTEL_STALE_HANDLES = _otel("fh.stale.count", "count of kernel NFS server stale file handles", "{fh}")
OTEL_IO = _otel(
    "io",
    "count of kernel NFS server bytes returned to receive and transmit (read and write) requests",
    "By",
    "network.io.direction",
)
OTEL_THREADS = Family(
    "nfs.server.thread.count",
    "Reports the count of kernel NFS server available threads",
    "updowncounter",
    unit="{thread}",
)
OTEL_NET = _otel(
    "net.count",
    "count of kernel NFS server TCP segments and UDP datagrams handled",
    "{record}",
    "network.transport",
)
OTEL_CONNECTIONS = _otel(
    "net.tcp.connection.accepted", "count of kernel NFS server TCP connections accepted", "{connection}"
)
OTEL_RPCS = _otel("rpc.count", "count of kernel NFS server RPCs handled", "{request}", "error.type")
OTEL_PROCEDURES = _otel(
    "procedure.count",
    "count of kernel NFS server procedures",
    "{procedure}",
    "onc_rpc.version",
    "onc_rpc.procedure.name",
)
OTEL_OPERATIONS = _otel(
    "operation.count",
    "count of kernel NFSv4+ server operations",
    "{operation}",
    "onc_rpc.version",
    "nfs.operation.name",
)


class ServerReading(NamedTuple):
    """Counters since the server started, by line of the file; procedures and operations in the order of their numbers."""

    reply_cache: list[int]
    """Hits, misses, requests that are not cached."""

    stale_handles: int
    transferred: list[int]
    """Bytes read and written."""

    threads: int
    read_ahead: tuple[int, int]
    """Size in blocks, and how often nothing was found."""

    network: list[int]
    """UDP, TCP, TCP connections."""

    rpcs: int
    bad_rpcs: list[int]
    """Of bad format, of bad authentication, from clients unknown."""

    procedures_2: list[int]
    procedures_3: list[int]
    operations_4: list[int]
    """From ACCESS on, as many as the kernel knows."""

    delegated_getattr: int


def parse(data: bytes) -> ServerReading:
    """The content of /proc/net/rpc/nfsd. Newer kernels have no line `ra`."""
    lines = parse_lines(data, _LINES)
    return ServerReading(
        lines[b"rc"][:3],
        lines[b"fh"][0],
        lines[b"io"][:2],
        lines[b"th"][0],
        (lines[b"ra"][0], lines[b"ra"][11]),
        lines[b"net"][1:4],
        lines[b"rpc"][0],
        lines[b"rpc"][2:5],
        padded(lines[b"proc2"], len(PROCEDURES_2)),
        padded(lines[b"proc3"], len(PROCEDURES_3)),
        lines[b"proc4ops"][_FIRST_OPERATION:],
        lines[b"wdeleg_getattr"][0],
    )


class NfsServer(HostCollector[ServerReading]):
    """What the NFS server is asked."""

    name = "nfsd"
    summary = "RPCs, operations and threads of the NFS server"
    prometheus = (
        REPLY_CACHE_HITS,
        REPLY_CACHE_MISSES,
        REPLY_CACHE_NOCACHE,
        STALE_HANDLES,
        BYTES_READ,
        BYTES_WRITTEN,
        THREADS,
        READ_AHEAD_SIZE,
        READ_AHEAD_NOT_FOUND,
        PACKETS,
        CONNECTIONS,
        RPC_ERRORS,
        RPCS,
        REQUESTS,
    )
    otel = (
        OTEL_REPLY_CACHE,
        OTEL_STALE_HANDLES,
        OTEL_IO,
        OTEL_THREADS,
        OTEL_NET,
        OTEL_CONNECTIONS,
        OTEL_RPCS,
        OTEL_PROCEDURES,
        OTEL_OPERATIONS,
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("net/rpc/nfsd", one_read=True)

    def read(self) -> ServerReading:
        return parse(read_or_no_data(self._file, "NFS server"))

    def families(self, reading: ServerReading) -> Sequence[Block]:
        operations = padded(reading.operations_4, len(_OPERATIONS_4))
        values: list[Number] = [
            *reading.reply_cache,
            reading.stale_handles,
            *reading.transferred,
            reading.threads,
            *reading.read_ahead,
            *reading.network,
            *reading.bad_rpcs,
            reading.rpcs,
            *reading.procedures_2[1:],
            *reading.procedures_3[1:],
            *[number for name, number in zip(_OPERATIONS_4, operations, strict=True) if name != "-"],
            reading.delegated_getattr,
        ]
        return [Block(self.shapes.get("prometheus", None, _series), values)]

    def telemetry(self, reading: ServerReading) -> Sequence[Block]:
        operations = reading.operations_4[: len(_RFC_OPERATIONS_4)]
        shape = self.shapes.get("otel", len(operations), lambda: _otel_series(len(operations)))
        values: list[Number] = [
            *reading.reply_cache,
            reading.stale_handles,
            *reading.transferred,
            reading.threads,
            *reading.network,
            reading.rpcs,
            *reading.bad_rpcs,
            *reading.procedures_2,
            *reading.procedures_3,
            *operations,
        ]
        return [Block(shape, values)]


def _series() -> list[Series]:
    return [
        *(family.series() for family in (REPLY_CACHE_HITS, REPLY_CACHE_MISSES, REPLY_CACHE_NOCACHE, STALE_HANDLES)),
        *(family.series() for family in (BYTES_READ, BYTES_WRITTEN, THREADS, READ_AHEAD_SIZE, READ_AHEAD_NOT_FOUND)),
        PACKETS.series("udp"),
        PACKETS.series("tcp"),
        CONNECTIONS.series(),
        *(RPC_ERRORS.series(error) for error in ("fmt", "auth", "cInt")),
        RPCS.series(),
        *(REQUESTS.series("2", method) for method in PROCEDURES_2[1:]),
        *(REQUESTS.series("3", method) for method in PROCEDURES_3[1:]),
        *(REQUESTS.series("4", method) for method in _OPERATIONS_4 if method != "-"),
        REQUESTS.series("4", "WdelegGetattr"),
    ]


def _otel_series(operations: int) -> list[Series]:
    return [
        *(OTEL_REPLY_CACHE.series(status) for status in ("hit", "miss", "nocache")),
        OTEL_STALE_HANDLES.series(),
        *(OTEL_IO.series(direction) for direction in ("receive", "transmit")),
        OTEL_THREADS.series(),
        *(OTEL_NET.series(transport) for transport in ("udp", "tcp")),
        OTEL_CONNECTIONS.series(),
        Series(OTEL_RPCS),
        *(OTEL_RPCS.series(error) for error in ("format", "auth", "client")),
        *(OTEL_PROCEDURES.series("2", method.upper()) for method in PROCEDURES_2),
        *(OTEL_PROCEDURES.series("3", method.upper()) for method in PROCEDURES_3),
        *(OTEL_OPERATIONS.series("4", name) for name in _RFC_OPERATIONS_4[:operations]),
    ]
