"""InfiniBand and RoCE ports from /sys/class/infiniband (Documentation/ABI/stable/sysfs-class-infiniband).

Data counters count the words of one of four lanes, so that a unit is four bytes. `counters_ext` is of kernels before 4.5.
"""

import os
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from novel_agent.config.schema import Regex, Section
from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.name_filter import NameFilter
from novel_agent.inputs.host.network_ports import ERRORS, IO, PACKETS, SPEED, UP
from novel_agent.inputs.host.samples import Samples
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family

_DIRECTORY = "class/infiniband"
_COUNTER_DIRECTORIES = ("counters_ext", "counters", "hw_counters")
_BYTES_PER_GBIT = 125_000_000
_LANES = 4
_DATA = frozenset(
    (
        "counters_ext/port_rcv_data_64",
        "counters_ext/port_xmit_data_64",
        "counters/port_rcv_data",
        "counters/port_xmit_data",
    )
)
_LIFESPAN = "hw_counters/lifespan"
_LINK_UP = 5

_PORT = ("device", "port")
INFO = Family(
    "node_infiniband_info",
    "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.",
    "gauge",
    ("device", "board_id", "firmware_version", "hca_type"),
)
STATE = Family(
    "node_infiniband_state_id",
    "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer)",
    "gauge",
    _PORT,
)
PHYSICAL_STATE = Family(
    "node_infiniband_physical_state_id",
    "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: shift, 5: link up, "
    "6: link error recover, 7: phytest)",
    "gauge",
    _PORT,
)
RATE = Family("node_infiniband_rate_bytes_per_second", "Maximum signal transfer rate", "gauge", _PORT)
LIFESPAN = Family(
    "node_infiniband_lifespan_seconds",
    "The maximum period in ms which defines the aging of the counter reads. Two consecutive reads within this period might "
    "return the same values.",
    "gauge",
    _PORT,
)


def _counter(name: str, help_text: str) -> Family:
    return Family(f"node_infiniband_{name}", help_text, "counter", _PORT)


# By file below the port's directory.
_COUNTERS = {
    "counters_ext/port_multicast_rcv_packets": _counter(
        "legacy_multicast_packets_received_total",
        "Number of multicast packets received",
    ),
    "counters_ext/port_multicast_xmit_packets": _counter(
        "legacy_multicast_packets_transmitted_total",
        "Number of multicast packets transmitted",
    ),
    "counters_ext/port_rcv_data_64": _counter(
        "legacy_data_received_bytes_total",
        "Number of data octets received on all links",
    ),
    "counters_ext/port_rcv_packets_64": _counter(
        "legacy_packets_received_total",
        "Number of data packets received on all links",
    ),
    "counters_ext/port_unicast_rcv_packets": _counter(
        "legacy_unicast_packets_received_total",
        "Number of unicast packets received",
    ),
    "counters_ext/port_unicast_xmit_packets": _counter(
        "legacy_unicast_packets_transmitted_total",
        "Number of unicast packets transmitted",
    ),
    "counters_ext/port_xmit_data_64": _counter(
        "legacy_data_transmitted_bytes_total",
        "Number of data octets transmitted on all links",
    ),
    "counters_ext/port_xmit_packets_64": _counter(
        "legacy_packets_transmitted_total",
        "Number of data packets received on all links",
    ),
    "counters/excessive_buffer_overrun_errors": _counter(
        "excessive_buffer_overrun_errors_total",
        "Number of times that OverrunErrors consecutive flow control update periods occurred, each having at "
        "least one overrun error.",
    ),
    "counters/link_downed": _counter(
        "link_downed_total",
        "Number of times the link failed to recover from an error state and went down",
    ),
    "counters/link_error_recovery": _counter(
        "link_error_recovery_total",
        "Number of times the link successfully recovered from an error state",
    ),
    "counters/local_link_integrity_errors": _counter(
        "local_link_integrity_errors_total",
        "Number of times that the count of local physical errors exceeded the threshold specified by LocalPhyErrors.",
    ),
    "counters/multicast_rcv_packets": _counter(
        "multicast_packets_received_total",
        "Number of multicast packets received (including errors)",
    ),
    "counters/multicast_xmit_packets": _counter(
        "multicast_packets_transmitted_total",
        "Number of multicast packets transmitted (including errors)",
    ),
    "counters/port_rcv_constraint_errors": _counter(
        "port_constraint_errors_received_total",
        "Number of packets received on the switch physical port that are discarded",
    ),
    "counters/port_xmit_constraint_errors": _counter(
        "port_constraint_errors_transmitted_total",
        "Number of packets not transmitted from the switch physical port",
    ),
    "counters/port_rcv_data": _counter("port_data_received_bytes_total", "Number of data octets received on all links"),
    "counters/port_xmit_data": _counter(
        "port_data_transmitted_bytes_total",
        "Number of data octets transmitted on all links",
    ),
    "counters/port_rcv_discards": _counter(
        "port_discards_received_total",
        "Number of inbound packets discarded by the port because the port is down or congested",
    ),
    "counters/port_xmit_discards": _counter(
        "port_discards_transmitted_total",
        "Number of outbound packets discarded by the port because the port is down or congested",
    ),
    "counters/port_rcv_errors": _counter(
        "port_errors_received_total",
        "Number of packets containing an error that were received on this port",
    ),
    "counters/port_rcv_packets": _counter(
        "port_packets_received_total",
        "Number of packets received on all VLs by this port (including errors)",
    ),
    "counters/port_xmit_packets": _counter(
        "port_packets_transmitted_total",
        "Number of packets transmitted on all VLs from this port (including errors)",
    ),
    "counters/port_xmit_wait": _counter(
        "port_transmit_wait_total",
        "Number of ticks during which the port had data to transmit but no data was sent during the entire tick",
    ),
    "counters/unicast_rcv_packets": _counter(
        "unicast_packets_received_total",
        "Number of unicast packets received (including errors)",
    ),
    "counters/unicast_xmit_packets": _counter(
        "unicast_packets_transmitted_total",
        "Number of unicast packets transmitted (including errors)",
    ),
    "counters/port_rcv_remote_physical_errors": _counter(
        "port_receive_remote_physical_errors_total",
        "Number of packets marked with the EBP (End of Bad Packet) delimiter received on the port.",
    ),
    "counters/port_rcv_switch_relay_errors": _counter(
        "port_receive_switch_relay_errors_total",
        "Number of packets that could not be forwarded by the switch.",
    ),
    "counters/symbol_error": _counter(
        "symbol_error_total",
        "Number of minor link errors detected on one or more physical lanes.",
    ),
    "counters/VL15_dropped": _counter(
        "vl15_dropped_total",
        "Number of incoming VL15 packets dropped due to resource limitations.",
    ),
    "hw_counters/duplicate_request": _counter(
        "duplicate_requests_packets_total",
        "The number of received packets. A duplicate request is a request that had been previously executed.",
    ),
    "hw_counters/implied_nak_seq_err": _counter(
        "implied_nak_seq_errors_total",
        "The number of time the requested decided an ACK. with a PSN larger than the expected PSN for an "
        "RDMA read or response.",
    ),
    "hw_counters/local_ack_timeout_err": _counter(
        "local_ack_timeout_errors_total",
        "The number of times QP's ack timer expired for RC, XRC, DCT QPs at the sender side. The QP retry "
        "limit was not exceed, therefore it is still recoverable error.",
    ),
    "hw_counters/np_cnp_sent": _counter(
        "np_cnp_packets_sent_total",
        "The number of CNP packets sent by the Notification Point when it noticed congestion experienced in "
        "the RoCEv2 IP header (ECN bits). The counters was added in MLNX_OFED 4.1",
    ),
    "hw_counters/np_ecn_marked_roce_packets": _counter(
        "np_ecn_marked_roce_packets_received_total",
        "The number of RoCEv2 packets received by the notification point which were marked for experiencing "
        "the congestion (ECN bits where '11' on the ingress RoCE traffic) . The counters was added in "
        "MLNX_OFED 4.1",
    ),
    "hw_counters/out_of_buffer": _counter(
        "out_of_buffer_drops_total",
        "The number of drops occurred due to lack of WQE for the associated QPs.",
    ),
    "hw_counters/out_of_sequence": _counter(
        "out_of_sequence_packets_received_total",
        "The number of out of sequence packets received.",
    ),
    "hw_counters/packet_seq_err": _counter(
        "packet_sequence_errors_total",
        "The number of received NAK sequence error packets. The QP retry limit was not exceeded.",
    ),
    "hw_counters/req_cqe_error": _counter(
        "req_cqes_errors_total",
        "The number of times requester detected CQEs completed with errors. The counters was added in MLNX_OFED 4.1",
    ),
    "hw_counters/req_cqe_flush_error": _counter(
        "req_cqes_flush_errors_total",
        "The number of times requester detected CQEs completed with flushed errors. The counters was added "
        "in MLNX_OFED 4.1",
    ),
    "hw_counters/req_remote_access_errors": _counter(
        "req_remote_access_errors_total",
        "The number of times requester detected remote access errors. The counters was added in MLNX_OFED 4.1",
    ),
    "hw_counters/req_remote_invalid_request": _counter(
        "req_remote_invalid_request_errors_total",
        "The number of times requester detected remote invalid request errors. The counters was added in MLNX_OFED 4.1",
    ),
    "hw_counters/resp_cqe_error": _counter(
        "resp_cqes_errors_total",
        "The number of times responder detected CQEs completed with errors. The counters was added in MLNX_OFED 4.1",
    ),
    "hw_counters/resp_cqe_flush_error": _counter(
        "resp_cqes_flush_errors_total",
        "The number of times responder detected CQEs completed with flushed errors. The counters was added "
        "in MLNX_OFED 4.1",
    ),
    "hw_counters/resp_local_length_error": _counter(
        "resp_local_length_errors_total",
        "The number of times responder detected local length errors. The counters was added in MLNX_OFED 4.1",
    ),
    "hw_counters/resp_remote_access_errors": _counter(
        "resp_remote_access_errors_total",
        "The number of times responder detected remote access errors. The counters was added in MLNX_OFED 4.1",
    ),
    "hw_counters/rnr_nak_retry_err": _counter(
        "rnr_nak_retry_packets_received_total",
        "The number of received RNR NAK packets. The QP retry limit was not exceeded.",
    ),
    "hw_counters/roce_adp_retrans": _counter(
        "roce_adp_retransmits_total",
        "The number of adaptive retransmissions for RoCE traffic. The counter was added in MLNX_OFED rev "
        "5.0-1.0.0.0 and kernel v5.6.0",
    ),
    "hw_counters/roce_adp_retrans_to": _counter(
        "roce_adp_retransmits_timeout_total",
        "The number of times RoCE traffic reached timeout due to adaptive retransmission. The counter was "
        "added in MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
    ),
    "hw_counters/roce_slow_restart": _counter(
        "roce_slow_restart_used_total",
        "The number of times RoCE slow restart was used. The counter was added in MLNX_OFED rev 5.0-1.0.0.0 "
        "and kernel v5.6.0",
    ),
    "hw_counters/roce_slow_restart_cnps": _counter(
        "roce_slow_restart_cnps_total",
        "The number of times RoCE slow restart generated CNP packets. The counter was added in MLNX_OFED rev "
        "5.0-1.0.0.0 and kernel v5.6.0",
    ),
    "hw_counters/roce_slow_restart_trans": _counter(
        "roce_slow_restart_total",
        "The number of times RoCE slow restart changed state to slow restart. The counter was added in "
        "MLNX_OFED rev 5.0-1.0.0.0 and kernel v5.6.0",
    ),
    "hw_counters/rp_cnp_handled": _counter(
        "rp_cnp_packets_handled_total",
        "The number of CNP packets handled by the Reaction Point HCA to throttle the transmission rate. The "
        "counters was added in MLNX_OFED 4.1",
    ),
    "hw_counters/rp_cnp_ignored": _counter(
        "rp_cnp_ignored_packets_received_total",
        "The number of CNP packets received and ignored by the Reaction Point HCA. This counter should not "
        "raise if RoCE Congestion Control was enabled in the network. If this counter raise, verify that ECN "
        "was enabled on the adapter.",
    ),
    "hw_counters/rx_atomic_requests": _counter(
        "rx_atomic_requests_total",
        "The number of received ATOMIC request for the associated QPs.",
    ),
    "hw_counters/rx_dct_connect": _counter(
        "rx_dct_connect_requests_total",
        "The number of received connection requests for the associated DCTs.",
    ),
    "hw_counters/rx_read_requests": _counter(
        "rx_read_requests_total",
        "The number of received READ requests for the associated QPs.",
    ),
    "hw_counters/rx_write_requests": _counter(
        "rx_write_requests_total",
        "The number of received WRITE requests for the associated QPs.",
    ),
    "hw_counters/rx_icrc_encapsulated": _counter(
        "rx_icrc_encapsulated_errors_total",
        "The number of RoCE packets with ICRC errors. This counter was added in MLNX_OFED 4.4 and kernel 4.19",
    ),
}
_TRAFFIC = (
    (IO, "counters/port_rcv_data", "receive"),
    (IO, "counters/port_xmit_data", "transmit"),
    (PACKETS, "counters/port_rcv_packets", "receive"),
    (PACKETS, "counters/port_xmit_packets", "transmit"),
)
_ERRORS = {
    "counters/symbol_error": "symbol",
    "counters/port_rcv_errors": "receive",
    "counters/link_downed": "link_down",
    "counters/link_error_recovery": "link_recovery",
    "counters/local_link_integrity_errors": "link_integrity",
    "counters/excessive_buffer_overrun_errors": "buffer_overrun",
}


class Port(NamedTuple):
    """One port: states by number, bytes a second, and the counters that its driver keeps, by file."""

    device: str
    number: str
    state: int
    physical_state: int
    bytes_per_second: int
    counters: dict[str, int]


class InfiniBandReading(NamedTuple):
    """Name, board, firmware and type of the devices; the ports of all."""

    devices: list[tuple[str, str, str, str]]
    ports: list[Port]


def parse_state(data: bytes) -> int:
    """The number in `4: ACTIVE`."""
    return int(data.partition(b":")[0])


def parse_rate(data: bytes) -> int:
    """Bytes a second from `100 Gb/sec (4X EDR)`."""
    number, _, unit = data.partition(b" ")
    if not unit.startswith(b"Gb/sec"):
        raise ValueError("InfiniBand rate is not in Gb/sec")
    return int(float(number) * _BYTES_PER_GBIT)


class InfiniBand(HostCollector[InfiniBandReading]):
    """What goes through the InfiniBand ports."""

    class Options(Section, frozen=True, kw_only=True):
        """Which devices are shown."""

        exclude_devices: Annotated[Regex, Meta(description="Devices left out.")] = ""
        include_devices: Annotated[Regex | None, Meta(description="Only these devices.")] = None

    name = "infiniband"
    summary = "state, rate, traffic and errors of InfiniBand and RoCE ports"
    prometheus = (INFO, STATE, PHYSICAL_STATE, RATE, LIFESPAN, *_COUNTERS.values())
    otel = (IO, PACKETS, UP, SPEED, ERRORS)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, InfiniBand.Options)
        self._wanted = NameFilter(options.exclude_devices, options.include_devices)
        self._listed: list[str] = []
        self._ports: dict[str, dict[str, list[str]]] = {}

    def read(self) -> InfiniBandReading:
        names = self.kernel.sys_entries(_DIRECTORY)
        if not names and not os.path.isdir(f"{self.kernel.sys}/{_DIRECTORY}"):
            raise NoData("no InfiniBand devices")
        if names != self._listed:
            self._ports = {name: self._discover(f"{_DIRECTORY}/{name}/ports") for name in names if self._wanted(name)}
            self._listed = names
        return InfiniBandReading(
            [self._device(name) for name in self._ports],
            [
                self._port(name, number, counters)
                for name, ports in self._ports.items()
                for number, counters in ports.items()
            ],
        )

    def _discover(self, base: str) -> dict[str, list[str]]:
        """The counters that each port has: the driver decides."""
        return {
            number: [
                path
                for directory in _COUNTER_DIRECTORIES
                for name in self.kernel.sys_entries(f"{base}/{number}/{directory}")
                if (path := f"{directory}/{name}") in _COUNTERS or path == _LIFESPAN
            ]
            for number in self.kernel.sys_entries(base)
        }

    def _device(self, name: str) -> tuple[str, str, str, str]:
        board, firmware, kind = (
            text(self.kernel.attribute(f"{_DIRECTORY}/{name}/{attribute}"))
            for attribute in ("board_id", "fw_ver", "hca_type")
        )
        return name, board, firmware, kind

    def _port(self, device: str, number: str, paths: Sequence[str]) -> Port:
        base = f"{_DIRECTORY}/{device}/ports/{number}"
        counters = {}
        for path in paths:
            data = self.kernel.attribute(f"{base}/{path}")
            # Old drivers write "N/A (no PMA)" for what they do not count.
            if data is not None and data.isdigit():
                counters[path] = int(data) * _LANES if path in _DATA else int(data)
        return Port(
            device,
            number,
            parse_state(self._attribute(f"{base}/state")),
            parse_state(self._attribute(f"{base}/phys_state")),
            parse_rate(self._attribute(f"{base}/rate")),
            counters,
        )

    def _attribute(self, relative: str) -> bytes:
        data = self.kernel.attribute(relative)
        if data is None:
            raise InputError(f"cannot read {self.kernel.sys}/{relative}")
        return data

    def families(self, reading: InfiniBandReading) -> Sequence[Block]:
        samples = Samples()
        for device in reading.devices:
            samples.add(INFO, 1, *device)
        for device_name, number, state, physical_state, bytes_per_second, counters in reading.ports:
            samples.add(STATE, state, device_name, number)
            samples.add(PHYSICAL_STATE, physical_state, device_name, number)
            samples.add(RATE, bytes_per_second, device_name, number)
            for path, count in counters.items():
                if path == _LIFESPAN:
                    samples.add(LIFESPAN, count // 1000, device_name, number)
                else:
                    samples.add(_COUNTERS[path], count, device_name, number)
        return samples.blocks(self.shapes, "prometheus")

    def telemetry(self, reading: InfiniBandReading) -> Sequence[Block]:
        samples = Samples()
        for device, number, _, physical_state, bytes_per_second, counters in reading.ports:
            port = f"{device}/{number}"
            samples.add(UP, int(physical_state == _LINK_UP), port)
            samples.add(SPEED, bytes_per_second, port)
            for family, path, direction in _TRAFFIC:
                if path in counters:
                    samples.add(family, counters[path], port, direction)
            for path, error in _ERRORS.items():
                if path in counters:
                    samples.add(ERRORS, counters[path], port, "network", error)
        return samples.blocks(self.shapes, "otel")
