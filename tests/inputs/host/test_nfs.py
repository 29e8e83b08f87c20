"""The NFS client and server count in files of the same form."""

import pytest

from novel_agent.errors import NoData
from novel_agent.inputs.host import nfs, nfsd
from novel_agent.wire.prometheus import render_text

CLIENT = (
    "net 18628 1 2 3\n"
    "rpc 4329785 338291 4330000\n"
    "proc2 18 " + " ".join(str(100 + number) for number in range(18)) + "\n"
    "proc3 22 " + " ".join(str(300 + number) for number in range(22)) + "\n"
    "proc4 69 " + " ".join(str(400 + number) for number in range(69)) + "\n"
)
SERVER = (
    "rc 1 2 3\nfh 4 0 0 0 0\nio 5 6\nth 8 0 0.000 0.000 0.000\nra 32 0 0 0 0 0 0 0 0 0 0 7\nnet 972 55 917 1\n"
    "rpc 18628 3 11 12 13\n"
    "proc2 18 " + " ".join(str(100 + number) for number in range(18)) + "\n"
    "proc3 22 " + " ".join(str(300 + number) for number in range(22)) + "\n"
    "proc4 2 2 10853\n"
    "proc4ops 76 " + " ".join(str(400 + number) for number in range(76)) + "\n"
    "wdeleg_getattr 16\n"
)


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_the_client_shows_packets_calls_and_procedures(tree, collector):
    client = collector("nfs", tree({"proc/net/rpc/nfs": CLIENT}))
    lines = samples(client.families(client.read()))
    assert lines[:9] == [
        'node_nfs_packets_total{protocol="udp"} 1',
        'node_nfs_packets_total{protocol="tcp"} 2',
        "node_nfs_connections_total 3",
        "node_nfs_rpcs_total 4329785",
        "node_nfs_rpc_retransmissions_total 338291",
        "node_nfs_rpc_authentication_refreshes_total 4330000",
        'node_nfs_requests_total{proto="2",method="Null"} 100',
        'node_nfs_requests_total{proto="2",method="GetAttr"} 101',
        'node_nfs_requests_total{proto="2",method="SetAttr"} 102',
    ]
    assert len(lines) == 6 + 18 + 22 + 59
    for expected in (
        'node_nfs_requests_total{proto="2",method="FsStat"} 117',
        'node_nfs_requests_total{proto="3",method="Null"} 300',
        'node_nfs_requests_total{proto="3",method="Commit"} 321',
        'node_nfs_requests_total{proto="4",method="Null"} 400',
        'node_nfs_requests_total{proto="4",method="GetDeviceInfo"} 444',
        'node_nfs_requests_total{proto="4",method="LayoutGet"} 445',
        'node_nfs_requests_total{proto="4",method="Clone"} 458',
    ):
        assert expected in lines


def test_telemetry_of_the_client_calls_operations_as_the_kernel_does(tree, collector):
    client = collector("nfs", tree({"proc/net/rpc/nfs": CLIENT}))
    lines = samples(client.telemetry(client.read()))
    assert lines[:6] == [
        'nfs.client.net.count{network.transport="udp"} 1',
        'nfs.client.net.count{network.transport="tcp"} 2',
        "nfs.client.net.tcp.connection.accepted 3",
        "nfs.client.rpc.count 4329785",
        "nfs.client.rpc.retransmit.count 338291",
        "nfs.client.rpc.authrefresh.count 4330000",
    ]
    for expected in (
        'nfs.client.procedure.count{onc_rpc.version="3",onc_rpc.procedure.name="READDIRPLUS"} 317',
        'nfs.client.operation.count{onc_rpc.version="4",nfs.operation.name="OPEN_CONFIRM"} 405',
        'nfs.client.operation.count{onc_rpc.version="4",nfs.operation.name="LAYOUTGET"} 444',
        'nfs.client.operation.count{onc_rpc.version="4",nfs.operation.name="GETDEVICEINFO"} 445',
        'nfs.client.operation.count{onc_rpc.version="4",nfs.operation.name="CLONE"} 458',
    ):
        assert expected in lines


def test_an_older_client_counts_fewer_operations():
    reading = nfs.parse(b"net 0 0 0 0\nrpc 1 2 3\nproc4 3 7 8 9\n")
    assert reading.operations_4 == [7, 8, 9] + [0] * 56
    assert reading.procedures_2 == [0] * 18


def test_the_server_shows_caches_bytes_threads_and_requests(tree, collector):
    server = collector("nfsd", tree({"proc/net/rpc/nfsd": SERVER}))
    lines = samples(server.families(server.read()))
    assert lines[:16] == [
        "node_nfsd_reply_cache_hits_total 1",
        "node_nfsd_reply_cache_misses_total 2",
        "node_nfsd_reply_cache_nocache_total 3",
        "node_nfsd_file_handles_stale_total 4",
        "node_nfsd_disk_bytes_read_total 5",
        "node_nfsd_disk_bytes_written_total 6",
        "node_nfsd_server_threads 8",
        "node_nfsd_read_ahead_cache_size_blocks 32",
        "node_nfsd_read_ahead_cache_not_found_total 7",
        'node_nfsd_packets_total{proto="udp"} 55',
        'node_nfsd_packets_total{proto="tcp"} 917',
        "node_nfsd_connections_total 1",
        'node_nfsd_rpc_errors_total{error="fmt"} 11',
        'node_nfsd_rpc_errors_total{error="auth"} 12',
        'node_nfsd_rpc_errors_total{error="cInt"} 13',
        "node_nfsd_server_rpcs_total 18628",
    ]
    assert len(lines) == 16 + 17 + 21 + 35 + 1
    for expected in (
        'node_nfsd_requests_total{proto="2",method="GetAttr"} 101',
        'node_nfsd_requests_total{proto="3",method="Commit"} 321',
        'node_nfsd_requests_total{proto="4",method="Access"} 403',
        'node_nfsd_requests_total{proto="4",method="PutFH"} 422',
        'node_nfsd_requests_total{proto="4",method="Read"} 425',
        'node_nfsd_requests_total{proto="4",method="RelLockOwner"} 439',
        'node_nfsd_requests_total{proto="4",method="WdelegGetattr"} 16',
    ):
        assert expected in lines
    assert not any('method="Null"' in line for line in lines)


def test_telemetry_of_the_server_has_every_operation_the_kernel_counts(tree, collector):
    server = collector("nfsd", tree({"proc/net/rpc/nfsd": SERVER}))
    lines = samples(server.telemetry(server.read()))
    assert lines[:14] == [
        'nfs.server.repcache.requests{nfs.server.repcache.status="hit"} 1',
        'nfs.server.repcache.requests{nfs.server.repcache.status="miss"} 2',
        'nfs.server.repcache.requests{nfs.server.repcache.status="nocache"} 3',
        "nfs.server.fh.stale.count 4",
        'nfs.server.io{network.io.direction="receive"} 5',
        'nfs.server.io{network.io.direction="transmit"} 6',
        "nfs.server.thread.count 8",
        'nfs.server.net.count{network.transport="udp"} 55',
        'nfs.server.net.count{network.transport="tcp"} 917',
        "nfs.server.net.tcp.connection.accepted 1",
        "nfs.server.rpc.count 18628",
        'nfs.server.rpc.count{error.type="format"} 11',
        'nfs.server.rpc.count{error.type="auth"} 12',
        'nfs.server.rpc.count{error.type="client"} 13',
    ]
    assert lines[-1] == 'nfs.server.operation.count{onc_rpc.version="4",nfs.operation.name="REMOVEXATTR"} 475'
    assert 'nfs.server.operation.count{onc_rpc.version="4",nfs.operation.name="EXCHANGE_ID"} 442' in lines


def test_lines_that_a_newer_kernel_adds_are_passed_over():
    reading = nfsd.parse(SERVER.encode() + b"courtesy_clients 4\n")
    assert reading.threads == 8


def test_an_older_server_counts_fewer_operations_and_none_beyond(tree, collector):
    operations = "proc4ops 40 " + " ".join(str(number) for number in range(40)) + "\n"
    server = collector("nfsd", tree({"proc/net/rpc/nfsd": f"net 0 0 0 0\n{operations}"}))
    reading = server.read()
    assert reading.operations_4 == list(range(3, 40))
    assert samples(server.telemetry(reading))[-1].endswith('name="RELEASE_LOCKOWNER"} 39')
    assert 'node_nfsd_requests_total{proto="4",method="RelLockOwner"} 39' in samples(server.families(reading))


@pytest.mark.parametrize("name", ["nfs", "nfsd"])
def test_without_the_module_there_is_no_data(collector, name):
    with pytest.raises(NoData):
        collector(name).read()


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage\n", b"net 1 2 3\n", b"net 1 2 3 many\n", b"proc3\n", b"proc3 22 1 2 3\n", b"proc3 3 1 2 3\n"],
)
@pytest.mark.parametrize("parse", [nfs.parse, nfsd.parse])
def test_refuses_what_the_kernel_does_not_write(parse, data):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(data)
