"""NVIDIA GPUs through NVML, the library of their driver (docs.nvidia.com/deploy/nvml-api).

Off unless asked for: it loads the driver's library into this process. Nothing is imported or loaded before the driver
shows itself in /proc/driver/nvidia. What a GPU does not support has no series. MIG slices are not told apart.

Written from NVML's header and tested against a library that implements the same functions; not seen on real hardware:
which values each model supports, how long the calls take, a GPU that is lost, a driver that is replaced underneath.
PCIe traffic needs a driver that counts it (fields 197 and 198); the older call samples 20 ms and is not a counter.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host.collector import HostCollector
from novel_agent.inputs.host.hardware import (
    ENERGY,
    ERRORS,
    FAN_SPEED_RATIO,
    GPU_IO,
    GPU_MEMORY_LIMIT,
    GPU_MEMORY_USAGE,
    GPU_MEMORY_UTILIZATION,
    GPU_UTILIZATION,
    POWER,
    STATUS,
    TEMPERATURE,
    labelled,
)
from novel_agent.model.metric import Block, Family, Number, Series

LIBRARY = "libnvidia-ml.so.1"
_SUCCESS = 0
_FUNCTION_NOT_FOUND = 13
_GPU_IS_LOST = 15
_DRIVER_NOT_LOADED = 9
_CORRECTED, _UNCORRECTED = 0, 1
_SINCE_MANUFACTURE = 1
_FIELD_VALUE = "IIqqIIQ"
_PCIE_TRANSMITTED, _PCIE_RECEIVED = 197, 198
_NAME_BYTES = 96
_TYPE_UINT = 1
_UINT_MASK = 0xFFFFFFFF
_PERCENT = 100
_MILLI = 1000
_STATES = ("ok", "failed")
_SUFFIXES = {"By": "_bytes", "Cel": "_celsius", "W": "_watts", "J": "_joules"}

Handle = Any
"""A ctypes.c_void_p; ctypes is not imported before the driver is known to be there."""


class GpuOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where NVML is."""

    library: Annotated[str, msgspec.Meta(description="File name or path of the NVML library.")] = LIBRARY


class _LostError(InputError):
    """The GPU fell off the bus or needs a reset."""


class Nvml:
    """NVML's C functions, called by name.

    `library` is a ctypes.CDLL or anything with the same functions as attributes.
    """

    def __init__(self, library: Any) -> None:
        import ctypes

        self._library = library
        self._buffer = ctypes.create_string_buffer
        self._pointer = ctypes.c_void_p
        self._uint = ctypes.c_uint

    def call(self, function: str, *arguments: Any) -> int:
        """NVML's return code; a function that this driver does not have is one that was not found."""
        entry = getattr(self._library, function, None)
        return _FUNCTION_NOT_FOUND if entry is None else int(entry(*arguments))

    def ask(self, function: str, layout: str, *arguments: Any, data: bytes = b"", rest: Sequence[str] = ()) -> Any:
        """What the function wrote behind its last argument, by `struct` layout; None where it is not supported.

        `data` is what stands there before; `rest` are the layouts of further results, which are not wanted.
        """
        buffer = self._buffer(data, struct.calcsize(layout))
        unwanted = [self._buffer(struct.calcsize(other)) for other in rest]
        code = self.call(function, *arguments, buffer, *unwanted)
        if code == _GPU_IS_LOST:
            raise _LostError(f"{function}: the GPU is lost")
        return struct.unpack(layout, buffer.raw) if code == _SUCCESS else None

    def text(self, function: str, *arguments: Any) -> str:
        """A string of the driver's; '' where it has none."""
        buffer = self._buffer(_NAME_BYTES)
        if self.call(function, *arguments, buffer, self._uint(_NAME_BYTES)) != _SUCCESS:
            return ""
        return buffer.value.decode(errors="replace")

    def count(self) -> int:
        """How many GPUs this process may see."""
        answer = self.ask("nvmlDeviceGetCount_v2", "I")
        if answer is None:
            raise InputError("NVML does not count the GPUs")
        return int(answer[0])

    def device(self, index: int) -> Handle | None:
        """The handle of a GPU; None where it cannot be had."""
        answer = self.ask("nvmlDeviceGetHandleByIndex_v2", "P", self._uint(index))
        return None if answer is None else self._pointer(answer[0])

    def number(self, function: str, layout: str, device: Handle, *choices: int) -> int | None:
        """A single number."""
        answer = self.ask(function, layout, device, *map(self._uint, choices))
        return None if answer is None else int(answer[0])

    def fields(self, device: Handle, *ids: int) -> list[int | None]:
        """Values of nvmlDeviceGetFieldValues; all those asked for are integers."""
        layout = _FIELD_VALUE * len(ids)
        data = b"".join(struct.pack(_FIELD_VALUE, id_, 0, 0, 0, 0, 0, 0) for id_ in ids)
        buffer = self._buffer(data, len(data))
        if self.call("nvmlDeviceGetFieldValues", device, len(ids), buffer) != _SUCCESS:
            return [None] * len(ids)
        values = struct.unpack(layout, buffer.raw)
        return [
            None if code != _SUCCESS else value & _UINT_MASK if kind == _TYPE_UINT else value
            for kind, code, value in zip(values[4::7], values[5::7], values[6::7], strict=True)
        ]


class Gpu(NamedTuple):
    """A GPU's label values (as `GPU_UTILIZATION` has them, without the task) and numbers by metric; none if it is lost."""

    identity: tuple[str, ...]
    numbers: tuple[Number | None, ...]
    lost: bool


class Metric(NamedTuple):
    """A metric and the labels that its series have beside the GPU's identity."""

    family: Family
    labels: dict[str, str]


def _part(answer: Sequence[int] | None, index: int, whole: float = 1) -> Number | None:
    return None if answer is None else answer[index] if whole == 1 else answer[index] / whole


def _over(value: int | None, divisor: float) -> float | None:
    return None if value is None else value / divisor


def _utilization(nvml: Nvml, device: Handle) -> Sequence[Number | None]:
    rates = nvml.ask("nvmlDeviceGetUtilizationRates", "II", device)
    encoder = nvml.ask("nvmlDeviceGetEncoderUtilization", "I", device, rest=("I",))
    decoder = nvml.ask("nvmlDeviceGetDecoderUtilization", "I", device, rest=("I",))
    return [_part(rates, 0, _PERCENT), _part(encoder, 0, _PERCENT), _part(decoder, 0, _PERCENT)]


def _memory(nvml: Nvml, device: Handle) -> Sequence[Number | None]:
    memory = nvml.ask("nvmlDeviceGetMemoryInfo", "QQQ", device)
    if memory is None or not memory[0]:
        return [None, None, None]
    total, _, used = memory
    return [used, total, used / total]


def _sensors(nvml: Nvml, device: Handle) -> Sequence[Number | None]:
    return [
        nvml.number("nvmlDeviceGetTemperature", "I", device, 0),
        _over(nvml.number("nvmlDeviceGetFanSpeed", "I", device), _PERCENT),
        _over(nvml.number("nvmlDeviceGetPowerUsage", "I", device), _MILLI),
        _over(nvml.number("nvmlDeviceGetTotalEnergyConsumption", "Q", device), _MILLI),
    ]


def _traffic(nvml: Nvml, device: Handle) -> Sequence[Number | None]:
    return nvml.fields(device, _PCIE_RECEIVED, _PCIE_TRANSMITTED)


def _errors(nvml: Nvml, device: Handle) -> Sequence[Number | None]:
    return [
        nvml.number("nvmlDeviceGetTotalEccErrors", "Q", device, _CORRECTED, _SINCE_MANUFACTURE),
        nvml.number("nvmlDeviceGetTotalEccErrors", "Q", device, _UNCORRECTED, _SINCE_MANUFACTURE),
        nvml.number("nvmlDeviceGetPcieReplayCounter", "I", device),
    ]


SOURCES: tuple[Callable[[Nvml, Handle], Sequence[Number | None]], ...] = (
    _utilization,
    _memory,
    _sensors,
    _traffic,
    _errors,
)
METRICS = (
    *(Metric(GPU_UTILIZATION, {"hw_gpu_task": task}) for task in ("general", "encoder", "decoder")),
    Metric(GPU_MEMORY_USAGE, {}),
    Metric(GPU_MEMORY_LIMIT, {}),
    Metric(GPU_MEMORY_UTILIZATION, {}),
    Metric(TEMPERATURE, {"hw_sensor_location": "gpu"}),
    Metric(FAN_SPEED_RATIO, {}),
    Metric(POWER, {"hw_type": "gpu"}),
    Metric(ENERGY, {"hw_type": "gpu"}),
    *(Metric(GPU_IO, {"network_io_direction": direction}) for direction in ("receive", "transmit")),
    *(Metric(ERRORS, {"hw_type": "gpu", "error_type": kind}) for kind in ("corrected", "uncorrected", "pcie_replay")),
)
_IDENTITY = tuple(name.replace(".", "_") for name in GPU_MEMORY_USAGE.labels)


def exposition(family: Family) -> Family:
    """The same metric as the OpenTelemetry specification converts it for Prometheus."""
    name = family.name.replace(".", "_")
    unit = "_ratio" if family.unit == "1" and family.kind == "gauge" else _SUFFIXES.get(family.unit, "")
    name += "" if name.endswith(unit) else unit
    name += "_total" if family.kind == "counter" else ""
    return Family(name, family.help, family.kind, tuple(label.replace(".", "_") for label in family.labels))


_PROMETHEUS = {family: exposition(family) for family in (*(metric.family for metric in METRICS), STATUS)}
_OTEL = {family: family for family in _PROMETHEUS}


class NvidiaGpu(HostCollector[tuple[Gpu, ...]]):
    """What each GPU does, holds, draws and gets wrong."""

    name = "gpu"
    summary = "utilization, memory, temperature, power and errors of NVIDIA GPUs"
    optional = True
    Options = GpuOptions
    prometheus = tuple(_PROMETHEUS.values())
    otel = tuple(_OTEL)

    def setup(self, options: msgspec.Struct) -> None:
        assert isinstance(options, GpuOptions)
        self._file = options.library
        self._nvml: Nvml | None = None
        self._driver = ""
        self._identities: dict[int, tuple[str, ...]] = {}

    def read(self) -> tuple[Gpu, ...]:
        if self._nvml is None:
            if not self.kernel.proc_entries("driver/nvidia"):
                raise NoData("the NVIDIA driver is not loaded")
            self._nvml = self._start()
        nvml = self._nvml
        try:
            count = nvml.count()
        except InputError:
            self._stop()
            raise
        return tuple([gpu for index in range(count) if (gpu := self._read_one(nvml, index)) is not None])

    @staticmethod
    def load_library(file: str) -> Any:
        """The NVML library, loaded; `NoData` where this host has none."""
        import ctypes

        try:
            return ctypes.CDLL(file)
        except OSError as error:
            raise NoData(f"NVML cannot be loaded: {error}") from None

    def _start(self) -> Nvml:
        nvml = Nvml(self.load_library(self._file))
        code = nvml.call("nvmlInit_v2")
        if code == _DRIVER_NOT_LOADED:
            raise NoData("the NVIDIA driver is not loaded")
        if code != _SUCCESS:
            raise InputError(f"NVML does not start: error {code}")
        self._driver = nvml.text("nvmlSystemGetDriverVersion")
        self._identities = {}
        return nvml

    def _stop(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            nvml.call("nvmlShutdown")

    def close(self) -> None:
        self._stop()
        super().close()

    def _read_one(self, nvml: Nvml, index: int) -> Gpu | None:
        """One GPU; None for one that cannot be had and was never seen."""
        try:
            device = nvml.device(index)
            if device is not None:
                if index not in self._identities:
                    self._identities[index] = self._identify(nvml, device, index)
                numbers = tuple([number for source in SOURCES for number in source(nvml, device)])
                return Gpu(self._identities[index], numbers, lost=False)
        except _LostError:
            pass
        identity = self._identities.get(index)
        return None if identity is None else Gpu(identity, (None,) * len(METRICS), lost=True)

    def _identify(self, nvml: Nvml, device: Handle, index: int) -> tuple[str, ...]:
        minor = nvml.number("nvmlDeviceGetMinorNumber", "I", device)
        return (
            nvml.text("nvmlDeviceGetUUID", device) or f"nvidia{index}",
            f"nvidia{index if minor is None else minor}",
            nvml.text("nvmlDeviceGetName", device),
            "NVIDIA",
            nvml.text("nvmlDeviceGetSerial", device),
            self._driver,
            nvml.text("nvmlDeviceGetVbiosVersion", device),
        )

    def families(self, reading: tuple[Gpu, ...]) -> Sequence[Block]:
        return self._blocks("prometheus", reading, _PROMETHEUS)

    def telemetry(self, reading: tuple[Gpu, ...]) -> Sequence[Block]:
        return self._blocks("otel", reading, _OTEL)

    def _blocks(self, slot: str, gpus: tuple[Gpu, ...], names: dict[Family, Family]) -> list[Block]:
        present = tuple([tuple([number is not None for number in gpu.numbers]) for gpu in gpus])
        key = (tuple([gpu.identity for gpu in gpus]), present)
        shape = self.shapes.get(slot, key, lambda: _series(gpus, names))
        values = [number for index in range(len(METRICS)) for gpu in gpus if (number := gpu.numbers[index]) is not None]
        values.extend(int(gpu.lost == (state == "failed")) for gpu in gpus for state in _STATES)
        return [Block(shape, values)]


def _series(gpus: Sequence[Gpu], names: dict[Family, Family]) -> list[Series]:
    rows = [
        (metric.family, gpu.identity, metric.labels)
        for index, metric in enumerate(METRICS)
        for gpu in gpus
        if gpu.numbers[index] is not None
    ]
    rows += [(STATUS, gpu.identity, {"hw_type": "gpu", "hw_state": state}) for gpu in gpus for state in _STATES]
    return [
        labelled(names[family], **dict(zip(_IDENTITY, identity, strict=True)), **labels)
        for family, identity, labels in rows
    ]
