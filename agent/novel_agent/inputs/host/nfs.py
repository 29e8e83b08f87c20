"""The NFS client's RPCs from /proc/net/rpc/nfs (net/sunrpc/stats.c; operation numbers in include/linux/nfs4.h)."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.kernel import read_or_no_data
from novel_agent.inputs.host.sunrpc import PROCEDURES_2, PROCEDURES_3, padded, parse_lines
from novel_agent.model.metric import Block, Family, Series

# NFSPROC4_CLNT_*, as node_exporter spells them. It has the two of numbers 44 and 45 the wrong way round: so has this list.
_OPERATIONS_4 = (  # noqa: SIM905 - a list of words
    "Null Read Write Commit Open OpenConfirm OpenNoattr OpenDowngrade Close Setattr FsInfo Renew SetClientID"
    " SetClientIDConfirm Lock Lockt Locku Access Getattr Lookup LookupRoot Remove Rename Link Symlink Create Pathconf StatFs"
    " ReadLink ReadDir ServerCaps DelegReturn GetACL SetACL FsLocations ReleaseLockowner Secinfo FsidPresent ExchangeID"
    " CreateSession DestroySession Sequence GetLeaseTime ReclaimComplete GetDeviceInfo LayoutGet LayoutCommit LayoutReturn"
    " SecinfoNoName TestStateID FreeStateID GetDeviceList BindConnToSession DestroyClientID Seek Allocate DeAllocate"
    " LayoutStats Clone"
).split()
# The same as the kernel itself calls them (fs/nfs/nfs4xdr.c, nfs4_procedures).
_KERNEL_OPERATIONS_4 = (  # noqa: SIM905 - a list of words
    "NULL READ WRITE COMMIT OPEN OPEN_CONFIRM OPEN_NOATTR OPEN_DOWNGRADE CLOSE SETATTR FSINFO RENEW SETCLIENTID"
    " SETCLIENTID_CONFIRM LOCK LOCKT LOCKU ACCESS GETATTR LOOKUP LOOKUP_ROOT REMOVE RENAME LINK SYMLINK CREATE PATHCONF STATFS"
    " READLINK READDIR SERVER_CAPS DELEGRETURN GETACL SETACL FS_LOCATIONS RELEASE_LOCKOWNER SECINFO FSID_PRESENT EXCHANGE_ID"
    " CREATE_SESSION DESTROY_SESSION SEQUENCE GET_LEASE_TIME RECLAIM_COMPLETE LAYOUTGET GETDEVICEINFO LAYOUTCOMMIT"
    " LAYOUTRETURN SECINFO_NO_NAME TEST_STATEID FREE_STATEID GETDEVICELIST BIND_CONN_TO_SESSION DESTROY_CLIENTID SEEK"
    " ALLOCATE DEALLOCATE LAYOUTSTATS CLONE"
).split()
_LINES = {b"net": 4, b"rpc": 3, b"proc2": len(PROCEDURES_2), b"proc3": len(PROCEDURES_3), b"proc4": 0}

PACKETS = Family(
    "node_nfs_packets_total",
    "Total NFSd network packets (sent+received) by protocol type.",
    "counter",
    ("protocol",),
)
CONNECTIONS = Family("node_nfs_connections_total", "Total number of NFSd TCP connections.", "counter")
RPCS = Family("node_nfs_rpcs_total", "Total number of RPCs performed.", "counter")
RETRANSMISSIONS = Family("node_nfs_rpc_retransmissions_total", "Number of RPC transmissions performed.", "counter")
AUTH_REFRESHES = Family(
    "node_nfs_rpc_authentication_refreshes_total", "Number of RPC authentication refreshes performed.", "counter"
)
REQUESTS = Family("node_nfs_requests_total", "Number of NFS procedures invoked.", "counter", ("proto", "method"))

_TRANSPORT = ("network.transport",)
OTEL_NET = Family(
    "nfs.client.net.count",
    "Reports the count of kernel NFS client TCP segments and UDP datagrams handled",
    "counter",
    _TRANSPORT,
    unit="{record}",
)
OTEL_CONNECTIONS = Family(
    "nfs.client.net.tcp.connection.accepted",
    "Reports the count of kernel NFS client TCP connections accepted",
    "counter",
    unit="{connection}",
)
OTEL_RPCS = Family(
    "nfs.client.rpc.count",
    "Reports the count of kernel NFS client RPCs sent, regardless of whether they're accepted/rejected by the server",
    "counter",
    unit="{request}",
)
OTEL_RETRANSMISSIONS = Family(
    "nfs.client.rpc.retransmit.count",
    "Reports the count of kernel NFS client RPC retransmits",
    "counter",
    unit="{retransmit}",
)
OTEL_AUTH_REFRESHES = Family(
    "nfs.client.rpc.authrefresh.count",
    "Reports the count of kernel NFS client RPC authentication refreshes",
    "counter",
    unit="{authrefresh}",
)
OTEL_PROCEDURES = Family(
    "nfs.client.procedure.count",
    "Reports the count of kernel NFS client procedures",
    "counter",
    ("onc_rpc.version", "onc_rpc.procedure.name"),
    unit="{procedure}",
)
OTEL_OPERATIONS = Family(
    "nfs.client.operation.count",
    "Reports the count of kernel NFSv4+ client operations",
    "counter",
    ("onc_rpc.version", "nfs.operation.name"),
    unit="{operation}",
)


class ClientReading(NamedTuple):
    """Counters since boot; procedures and operations in the order of their numbers."""

    udp: int
    tcp: int
    connections: int
    rpcs: int
    retransmissions: int
    auth_refreshes: int
    procedures_2: list[int]
    procedures_3: list[int]
    operations_4: list[int]


def parse(data: bytes) -> ClientReading:
    """The content of /proc/net/rpc/nfs."""
    lines = parse_lines(data, _LINES)
    _, udp, tcp, connections = lines[b"net"][:4]
    rpcs, retransmissions, auth_refreshes = lines[b"rpc"][:3]
    return ClientReading(
        udp,
        tcp,
        connections,
        rpcs,
        retransmissions,
        auth_refreshes,
        padded(lines[b"proc2"], len(PROCEDURES_2)),
        padded(lines[b"proc3"], len(PROCEDURES_3)),
        padded(lines[b"proc4"], len(_OPERATIONS_4)),
    )


class NfsClient(HostCollector[ClientReading]):
    """What the NFS client asks of its servers."""

    name = "nfs"
    summary = "RPCs and operations of the NFS client"
    prometheus = (PACKETS, CONNECTIONS, RPCS, RETRANSMISSIONS, AUTH_REFRESHES, REQUESTS)
    otel = (
        OTEL_NET,
        OTEL_CONNECTIONS,
        OTEL_RPCS,
        OTEL_RETRANSMISSIONS,
        OTEL_AUTH_REFRESHES,
        OTEL_PROCEDURES,
        OTEL_OPERATIONS,
    )

    def setup(self, options: msgspec.Struct) -> None:
        self._file = self.kernel.proc_file("net/rpc/nfs", one_read=True)

    def read(self) -> ClientReading:
        return parse(read_or_no_data(self._file, "NFS client"))

    def families(self, reading: ClientReading) -> Sequence[Block]:
        return [Block(self.shapes.get("prometheus", None, _series), _values(reading))]

    def telemetry(self, reading: ClientReading) -> Sequence[Block]:
        return [Block(self.shapes.get("otel", None, _otel_series), _values(reading))]


def _values(reading: ClientReading) -> list[int]:
    *counters, procedures_2, procedures_3, operations_4 = reading
    return [*counters, *procedures_2, *procedures_3, *operations_4]


def _series() -> list[Series]:
    return [
        PACKETS.series("udp"),
        PACKETS.series("tcp"),
        CONNECTIONS.series(),
        RPCS.series(),
        RETRANSMISSIONS.series(),
        AUTH_REFRESHES.series(),
        *(REQUESTS.series("2", method) for method in PROCEDURES_2),
        *(REQUESTS.series("3", method) for method in PROCEDURES_3),
        *(REQUESTS.series("4", method) for method in _OPERATIONS_4),
    ]


def _otel_series() -> list[Series]:
    return [
        OTEL_NET.series("udp"),
        OTEL_NET.series("tcp"),
        OTEL_CONNECTIONS.series(),
        OTEL_RPCS.series(),
        OTEL_RETRANSMISSIONS.series(),
        OTEL_AUTH_REFRESHES.series(),
        *(OTEL_PROCEDURES.series("2", method.upper()) for method in PROCEDURES_2),
        *(OTEL_PROCEDURES.series("3", method.upper()) for method in PROCEDURES_3),
        *(OTEL_OPERATIONS.series("4", name) for name in _KERNEL_OPERATIONS_4),
    ]
