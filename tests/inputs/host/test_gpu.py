"""NVML is played by an object whose attributes are C functions (ctypes callbacks) of the library's own signatures."""

import ctypes
import subprocess
import sys
from ctypes import CFUNCTYPE, c_int, c_uint, c_ulonglong, c_void_p

import pytest

from novel_agent.errors import InputError, NoData
from novel_agent.inputs.host.gpu import NvidiaGpu, exposition
from novel_agent.inputs.host.hardware import GPU_MEMORY_LIMIT, STATUS
from novel_agent.wire.prometheus import render_text

NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST, UNKNOWN = 3, 9, 15, 999
FIRST_HANDLE = 0x7F12_3456_7000
UINT, ULONGLONG = 1, 3
DRIVER = {"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15\n"}

A100 = {
    "Name": "NVIDIA A100-SXM4-40GB",
    "UUID": "GPU-5f1d9b0e-4c7a-9e25-1c64-0a5a3f1a2b3c",
    "Serial": "1561221012345",
    "VbiosVersion": "92.00.45.00.03",
    "MinorNumber": 0,
    "UtilizationRates": (87, 41),
    "EncoderUtilization": 25,
    "DecoderUtilization": 0,
    "MemoryInfo": (42949672960, 10737418240, 32212254720),
    "Temperature": 64,
    "FanSpeed": 30,
    "PowerUsage": 251500,
    "TotalEnergyConsumption": 7_500_000_000_123,
    "PcieReplayCounter": 2,
    ("TotalEccErrors", 0): 11,
    ("TotalEccErrors", 1): 1,
    ("Field", 197): (ULONGLONG, 5_000_000_000),
    ("Field", 198): (UINT, 0xFFFFFFFF_00000007),
}
GEFORCE = {
    "Name": "NVIDIA GeForce RTX 3060",
    "UUID": "GPU-77",
    "MinorNumber": 1,
    "UtilizationRates": (5, 3),
    "Temperature": 41,
}


class FieldValue(ctypes.Structure):
    _fields_ = (
        ("field_id", c_uint),
        ("scope_id", c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency", ctypes.c_longlong),
        ("value_type", c_uint),
        ("code", c_int),
        ("value", c_ulonglong),
    )


class FakeNvml:
    """Some GPUs, by what they support. `codes` are results forced on a function."""

    def __init__(self, *gpus: dict, **codes: int) -> None:
        self.gpus = gpus
        self.codes = codes
        self.calls: list[str] = []
        self._define("nvmlInit_v2", (), lambda: 0)
        self._define("nvmlShutdown", (), lambda: 0)
        self._define("nvmlDeviceGetCount_v2", (c_void_p,), lambda out: self._write(c_uint, out, len(gpus)))
        self._define("nvmlDeviceGetHandleByIndex_v2", (c_uint, c_void_p), self._handle)
        self._define(
            "nvmlSystemGetDriverVersion", (c_void_p, c_uint), lambda out, size: self._text(out, size, "550.54.15")
        )
        for name in ("Name", "UUID", "Serial", "VbiosVersion"):
            self._define(f"nvmlDeviceGet{name}", (c_void_p, c_void_p, c_uint), self._texts(name))
        for name in ("MinorNumber", "FanSpeed", "PowerUsage", "PcieReplayCounter"):
            self._define(f"nvmlDeviceGet{name}", (c_void_p, c_void_p), self._numbers(name, c_uint))
        self._define(
            "nvmlDeviceGetTotalEnergyConsumption", (c_void_p,) * 2, self._numbers("TotalEnergyConsumption", c_ulonglong)
        )
        self._define("nvmlDeviceGetUtilizationRates", (c_void_p,) * 2, self._arrays("UtilizationRates", c_uint))
        self._define("nvmlDeviceGetMemoryInfo", (c_void_p,) * 2, self._arrays("MemoryInfo", c_ulonglong))
        self._define("nvmlDeviceGetTemperature", (c_void_p, c_uint, c_void_p), self._temperature)
        for name in ("EncoderUtilization", "DecoderUtilization"):
            self._define(f"nvmlDeviceGet{name}", (c_void_p,) * 3, self._coder(name))
        self._define("nvmlDeviceGetTotalEccErrors", (c_void_p, c_uint, c_uint, c_void_p), self._ecc)
        self._define("nvmlDeviceGetFieldValues", (c_void_p, c_int, c_void_p), self._fields)

    def _define(self, name, argument_types, call) -> None:
        def entry(*arguments):
            self.calls.append(name)
            return self.codes[name] if name in self.codes else call(*arguments)

        setattr(self, name, CFUNCTYPE(c_int, *argument_types)(entry))

    @staticmethod
    def _write(kind, address: int, value: int) -> int:
        kind.from_address(address).value = value
        return 0

    @staticmethod
    def _text(address: int, size: int, value: str | None) -> int:
        if value is None:
            return NOT_SUPPORTED
        assert len(value) < size
        ctypes.memmove(address, value.encode() + b"\0", len(value) + 1)
        return 0

    def _handle(self, index: int, out: int) -> int:
        if "lost" in self.gpus[index]:
            return GPU_IS_LOST
        return self._write(c_void_p, out, FIRST_HANDLE + index)

    def _gpu(self, device: int) -> dict:
        return self.gpus[device - FIRST_HANDLE]

    def _texts(self, name: str):
        return lambda device, out, size: self._text(out, size, self._gpu(device).get(name))

    def _number(self, device: int, out: int, kind, key) -> int:
        value = self._gpu(device).get(key)
        return NOT_SUPPORTED if value is None else self._write(kind, out, value)

    def _numbers(self, name: str, kind):
        return lambda device, out: self._number(device, out, kind, name)

    def _arrays(self, name: str, kind):
        def call(device: int, out: int) -> int:
            values = self._gpu(device).get(name)
            if values is None:
                return NOT_SUPPORTED
            (kind * len(values)).from_address(out)[:] = values
            return 0

        return call

    def _temperature(self, device: int, sensor: int, out: int) -> int:
        assert sensor == 0
        return self._number(device, out, c_uint, "Temperature")

    def _coder(self, name: str):
        def call(device: int, out: int, period: int) -> int:
            self._write(c_uint, period, 167000)
            return self._number(device, out, c_uint, name)

        return call

    def _ecc(self, device: int, kind: int, counter: int, out: int) -> int:
        assert counter == 1
        return self._number(device, out, c_ulonglong, ("TotalEccErrors", kind))

    def _fields(self, device: int, count: int, address: int) -> int:
        for field in (FieldValue * count).from_address(address):
            answer = self._gpu(device).get(("Field", field.field_id))
            field.code = NOT_SUPPORTED if answer is None else 0
            if answer is not None:
                field.value_type, field.value = answer
        return 0


@pytest.fixture
def gpu(tree, collector, monkeypatch):
    def make(library: FakeNvml) -> NvidiaGpu:
        monkeypatch.setattr(NvidiaGpu, "load_library", staticmethod(lambda file: library))
        return collector("gpu", tree(DRIVER))

    return make


def samples(blocks) -> list[str]:
    return [line for line in render_text(blocks).decode().splitlines() if not line.startswith("#")]


def test_shows_all_that_a_gpu_supports(gpu):
    instance = gpu(FakeNvml(A100))
    uuid = 'hw_id="GPU-5f1d9b0e-4c7a-9e25-1c64-0a5a3f1a2b3c"'
    whole = (
        f'{uuid},hw_name="nvidia0",hw_model="NVIDIA A100-SXM4-40GB",hw_vendor="NVIDIA",'
        'hw_serial_number="1561221012345",hw_driver_version="550.54.15",hw_firmware_version="92.00.45.00.03"'
    )
    typed = f'{uuid},hw_type="gpu",hw_name="nvidia0"'
    assert samples(instance.families(instance.read())) == [
        f'hw_gpu_utilization_ratio{{{whole},hw_gpu_task="general"}} 0.87',
        f'hw_gpu_utilization_ratio{{{whole},hw_gpu_task="encoder"}} 0.25',
        f'hw_gpu_utilization_ratio{{{whole},hw_gpu_task="decoder"}} 0.0',
        f"hw_gpu_memory_usage_bytes{{{whole}}} 32212254720",
        f"hw_gpu_memory_limit_bytes{{{whole}}} 42949672960",
        f"hw_gpu_memory_utilization_ratio{{{whole}}} 0.75",
        f'hw_temperature_celsius{{{uuid},hw_name="nvidia0",hw_sensor_location="gpu"}} 64',
        f'hw_fan_speed_ratio{{{uuid},hw_name="nvidia0"}} 0.3',
        f"hw_power_watts{{{typed}}} 251.5",
        f"hw_energy_joules_total{{{typed}}} 7500000000.123",
        f'hw_gpu_io_bytes_total{{{whole},network_io_direction="receive"}} 7',
        f'hw_gpu_io_bytes_total{{{whole},network_io_direction="transmit"}} 5000000000',
        f'hw_errors_total{{{typed},error_type="corrected"}} 11',
        f'hw_errors_total{{{typed},error_type="uncorrected"}} 1',
        f'hw_errors_total{{{typed},error_type="pcie_replay"}} 2',
        f'hw_status{{{typed},hw_state="ok"}} 1',
        f'hw_status{{{typed},hw_state="failed"}} 0',
    ]


def test_telemetry_has_the_same_numbers_under_opentelemetrys_names(gpu):
    instance = gpu(FakeNvml(A100))
    reading = instance.read()
    (block,), (same,) = instance.telemetry(reading), instance.families(reading)
    assert block.values == same.values
    names = [series.family.name for series in block.shape.series]
    assert names[:4] == ["hw.gpu.utilization"] * 3 + ["hw.gpu.memory.usage"]
    assert dict(block.shape.series[0].labels)["hw.gpu.task"] == "general"


def test_what_a_gpu_does_not_support_has_no_series(gpu):
    instance = gpu(FakeNvml(A100, GEFORCE))
    lines = [line for line in samples(instance.families(instance.read())) if "GPU-77" in line]
    assert [line.partition("{")[0] for line in lines] == [
        "hw_gpu_utilization_ratio",
        "hw_temperature_celsius",
        "hw_status",
        "hw_status",
    ]
    assert 'hw_name="nvidia1"' in lines[0]
    assert "hw_serial_number" not in lines[0]


def test_functions_that_an_older_driver_lacks_are_not_supported(gpu):
    library = FakeNvml(A100)
    del library.nvmlDeviceGetFieldValues
    del library.nvmlDeviceGetTotalEnergyConsumption
    instance = gpu(library)
    text = "\n".join(samples(instance.families(instance.read())))
    assert "hw_gpu_io" not in text
    assert "hw_energy" not in text
    assert "hw_power_watts" in text


def test_a_gpu_that_is_lost_has_failed_and_the_others_go_on(gpu):
    first, second = dict(A100), dict(GEFORCE)
    instance = gpu(FakeNvml(first, second))
    instance.read()
    first["lost"] = True
    lines = samples(instance.families(instance.read()))
    assert [line.rpartition(",")[2] for line in lines if "GPU-5f1d" in line] == [
        'hw_state="ok"} 0',
        'hw_state="failed"} 1',
    ]
    assert len([line for line in lines if "GPU-77" in line]) == 4


def test_a_gpu_that_is_lost_during_a_reading_has_failed(gpu):
    library = FakeNvml(A100)
    instance = gpu(library)
    instance.read()
    library.codes["nvmlDeviceGetPowerUsage"] = GPU_IS_LOST
    (lost,) = instance.read()
    assert lost.lost
    assert set(lost.numbers) == {None}


def test_gpus_are_identified_once(gpu):
    library = FakeNvml(A100)
    instance = gpu(library)
    instance.read()
    instance.read()
    assert library.calls.count("nvmlDeviceGetUUID") == 1
    assert library.calls.count("nvmlInit_v2") == 1


def test_nvml_is_started_again_after_it_failed(gpu):
    library = FakeNvml(A100)
    instance = gpu(library)
    instance.read()
    library.codes["nvmlDeviceGetCount_v2"] = UNKNOWN
    with pytest.raises(InputError):
        instance.read()
    del library.codes["nvmlDeviceGetCount_v2"]
    assert len(instance.read()) == 1
    assert library.calls.count("nvmlInit_v2") == 2


def test_nvml_is_shut_down_once(gpu):
    library = FakeNvml(A100)
    instance = gpu(library)
    instance.read()
    instance.close()
    instance.close()
    assert library.calls.count("nvmlShutdown") == 1


def test_there_is_no_data_where_nvml_finds_no_driver(gpu):
    with pytest.raises(NoData):
        gpu(FakeNvml(A100, nvmlInit_v2=DRIVER_NOT_LOADED)).read()


def test_nvml_that_does_not_start_is_an_error(gpu):
    with pytest.raises(InputError, match="999") as caught:
        gpu(FakeNvml(A100, nvmlInit_v2=UNKNOWN)).read()
    assert not isinstance(caught.value, NoData)


def test_there_is_no_data_without_the_driver_or_the_library(tree, collector):
    with pytest.raises(NoData, match="driver"):
        collector("gpu").read()
    with pytest.raises(NoData, match=r"libnovel-none\.so"):
        collector("gpu", tree(DRIVER), library="libnovel-none.so").read()


def test_ctypes_is_not_imported_before_a_driver_is_there(tmp_path):
    code = (
        "import sys\n"
        "from novel_agent.errors import NoData\n"
        "from novel_agent.inputs.host.gpu import NvidiaGpu\n"
        "from novel_agent.inputs.host.kernel import Kernel\n"
        f"gpu = NvidiaGpu(Kernel({str(tmp_path)!r}), NvidiaGpu.Options())\n"
        "try:\n    gpu.read()\nexcept NoData:\n    pass\n"
        "print('ctypes' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_names_are_converted_as_opentelemetry_says():
    limit, status = exposition(GPU_MEMORY_LIMIT), exposition(STATUS)
    assert (limit.name, limit.kind, limit.labels[0]) == ("hw_gpu_memory_limit_bytes", "updowncounter", "hw_id")
    assert status.name == "hw_status"
