"""Fibre Channel host ports from /sys/class/fc_host (drivers/scsi/scsi_transport_fc.c; numbers are hexadecimal)."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from novel_agent.errors import NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.network_ports import ERRORS, IO, PACKETS, UP
from novel_agent.inputs.host.samples import Samples
from novel_agent.inputs.host.sysfs import text
from novel_agent.model.metric import Block, Family

_DIRECTORY = "class/fc_host"
_NOT_COUNTED = (1 << 64) - 1
_WORD_BYTES = 4

INFO = Family(
    "node_fibrechannel_info",
    "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.",
    "gauge",
    (
        "fc_host",
        "speed",
        "port_state",
        "port_type",
        "port_id",
        "port_name",
        "fabric_name",
        "symbolic_name",
        "supported_classes",
        "supported_speeds",
        "dev_loss_tmo",
    ),
)
_ATTRIBUTES = INFO.labels[1:]
_WITH_PREFIX = frozenset(("port_id", "port_name", "fabric_name"))


def _counter(name: str, help_text: str) -> Family:
    return Family(f"node_fibrechannel_{name}", help_text, "counter", ("fc_host",))


_COUNTERS = {
    "dumped_frames": _counter("dumped_frames_total", "Number of dumped frames"),
    "error_frames": _counter("error_frames_total", "Number of errors in frames"),
    "invalid_crc_count": _counter("invalid_crc_total", "Invalid Cyclic Redundancy Check count"),
    "rx_frames": _counter("rx_frames_total", "Number of frames received"),
    "rx_words": _counter("rx_words_total", "Number of words received by host port"),
    "tx_frames": _counter("tx_frames_total", "Number of frames transmitted by host port"),
    "tx_words": _counter("tx_words_total", "Number of words transmitted by host port"),
    "seconds_since_last_reset": _counter(
        "seconds_since_last_reset_total", "Number of seconds since last host port reset"
    ),
    "invalid_tx_word_count": _counter("invalid_tx_words_total", "Number of invalid words transmitted by host port"),
    "link_failure_count": _counter("link_failure_total", "Number of times the host port link has failed"),
    "loss_of_sync_count": _counter(
        "loss_of_sync_total", "Number of failures on either bit or transmission word boundaries"
    ),
    "loss_of_signal_count": _counter("loss_of_signal_total", "Number of times signal has been lost"),
    "nos_count": _counter("nos_total", "Number Not_Operational Primitive Sequence received by host port"),
    "fcp_packet_aborts": _counter("fcp_packet_aborts_total", "Number of aborted packets"),
}

_TRAFFIC = (
    (IO, "rx_words", "receive", _WORD_BYTES),
    (IO, "tx_words", "transmit", _WORD_BYTES),
    (PACKETS, "rx_frames", "receive", 1),
    (PACKETS, "tx_frames", "transmit", 1),
)
_ERRORS = {
    "error_frames": "frame",
    "invalid_crc_count": "crc",
    "invalid_tx_word_count": "invalid_word",
    "link_failure_count": "link_failure",
    "loss_of_sync_count": "loss_of_sync",
    "loss_of_signal_count": "loss_of_signal",
}


class Port(NamedTuple):
    """One host port: what it says of itself, '' where it says nothing, and the counters that its driver keeps."""

    host: str
    attributes: dict[str, str]
    counters: dict[str, int]


class FibreChannel(HostCollector[list[Port]]):
    """What goes through the Fibre Channel ports."""

    name = "fibrechannel"
    summary = "state, traffic and errors of Fibre Channel host ports"
    prometheus = (INFO, *_COUNTERS.values())
    otel = (IO, PACKETS, UP, ERRORS)

    def setup(self, options: msgspec.Struct) -> None:
        self._hosts: list[str] = []
        self._attributes: dict[str, list[str]] = {}
        self._counters: dict[str, list[str]] = {}

    def read(self) -> list[Port]:
        hosts = self.kernel.sys_entries(_DIRECTORY)
        if not hosts and not os.path.isdir(f"{self.kernel.sys}/{_DIRECTORY}"):
            raise NoData("no Fibre Channel ports")
        if hosts != self._hosts:
            self._discover(hosts)
            self._hosts = hosts
        return [self._port(host) for host in hosts]

    def _discover(self, hosts: Sequence[str]) -> None:
        """Which of the files there are: the driver decides."""
        entries = self.kernel.sys_entries
        self._attributes = {host: _present(_ATTRIBUTES, entries(f"{_DIRECTORY}/{host}")) for host in hosts}
        self._counters = {host: _present(_COUNTERS, entries(f"{_DIRECTORY}/{host}/statistics")) for host in hosts}

    def _port(self, host: str) -> Port:
        attribute = self.kernel.attribute
        attributes = dict.fromkeys(_ATTRIBUTES, "")
        for name in self._attributes[host]:
            value = text(attribute(f"{_DIRECTORY}/{host}/{name}"))
            attributes[name] = value[2:] if name in _WITH_PREFIX and len(value) > 2 else value
        counters = {}
        for name in self._counters[host]:
            data = attribute(f"{_DIRECTORY}/{host}/statistics/{name}")
            if data is not None and (number := int(data, 0)) != _NOT_COUNTED:
                counters[name] = number
        return Port(host, attributes, counters)

    def families(self, reading: list[Port]) -> Sequence[Block]:
        samples = Samples()
        for host, attributes, counters in reading:
            samples.add(INFO, 1, host, *attributes.values())
            for name, number in counters.items():
                samples.add(_COUNTERS[name], number, host)
        return samples.blocks(self.shapes, "prometheus")

    def telemetry(self, reading: list[Port]) -> Sequence[Block]:
        samples = Samples()
        for host, attributes, counters in reading:
            samples.add(UP, int(attributes["port_state"] == "Online"), host)
            for family, name, direction, factor in _TRAFFIC:
                if name in counters:
                    samples.add(family, counters[name] * factor, host, direction)
            for name, error in _ERRORS.items():
                if name in counters:
                    samples.add(ERRORS, counters[name], host, "network", error)
        return samples.blocks(self.shapes, "otel")


def _present(wanted: Sequence[str] | dict[str, Family], entries: Sequence[str]) -> list[str]:
    there = set(entries)
    return [name for name in wanted if name in there]
