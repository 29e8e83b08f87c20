import os
import socket

import pytest

from novel_agent.inputs.host import kernel
from novel_agent.inputs.host.kernel import KernelFile


@pytest.fixture
def reads(monkeypatch):
    """The sizes of the pieces read."""
    sizes: list[int] = []
    real = os.pread

    def pread(descriptor: int, size: int, position: int) -> bytes:
        data = real(descriptor, min(size, 4096), position)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(kernel.os, "pread", pread)
    return sizes


@pytest.mark.parametrize(
    ("size", "pieces"),
    [
        (0, [0]),
        (3839, [3839]),
        (3840, [3840, 0]),
        (4096, [4096, 0]),
        (5000, [4096, 904, 0]),
    ],
)
def test_a_piece_with_room_for_one_more_record_is_the_whole_table(tmp_path, reads, size, pieces):
    path = tmp_path / "table"
    path.write_bytes(b"x" * size)
    file = KernelFile(str(path), record_bytes=256)
    for _ in range(2):
        assert file.read() == b"x" * size
        assert reads == pieces
        reads.clear()
    file.close()


def test_without_a_word_on_its_records_a_table_is_read_to_its_end(tmp_path, reads):
    path = tmp_path / "table"
    path.write_bytes(b"x" * 100)
    file = KernelFile(str(path))
    file.read()
    file.close()
    assert reads == [100, 0]


@pytest.mark.parametrize(("size", "pieces"), [(4095, [4095]), (4096, [4096, 0])])
def test_a_file_in_one_read_is_complete_when_it_leaves_room(tmp_path, reads, size, pieces):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    file = KernelFile(str(path), one_read=True)
    assert file.read() == b"x" * size
    assert reads == pieces
    reads.clear()
    assert len(file.read()) == size
    assert reads == [size], "the buffer has grown"
    file.close()


def test_a_table_of_the_kernel_is_whole_whatever_its_length():
    file = KernelFile("/proc/net/udp", record_bytes=256)
    opened = []
    try:
        for _ in range(70):
            opened.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            opened[-1].bind(("127.0.0.1", 0))
            ports = {int(line.split()[1].split(b":")[1], 16) for line in file.read().splitlines()[1:]}
            assert {each.getsockname()[1] for each in opened} <= ports
    finally:
        file.close()
        for each in opened:
            each.close()
