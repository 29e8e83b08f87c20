import os

import pytest

from novel_agent.errors import InputError
from novel_agent.inputs.host import replaced_file
from novel_agent.inputs.host.replaced_file import ReplacedFile, content, signature


def test_reads_again_what_was_replaced(tmp_path):
    path = tmp_path / "settings"
    path.write_bytes(b"one")
    file = ReplacedFile(str(path))
    assert file.read() == b"one"
    (tmp_path / "new").write_bytes(b"two")
    os.replace(tmp_path / "new", path)
    assert file.read() == b"two"


def test_opens_it_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "settings"
    path.write_bytes(b"one")
    file = ReplacedFile(str(path))
    file.read()
    monkeypatch.setattr(replaced_file, "content", lambda path: pytest.fail("opened again"))
    assert file.read() == b"one"


def test_a_fifo_would_block_and_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match="not a regular file"):
        signature(str(tmp_path / "fifo"))


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(b"x" * 11)
    monkeypatch.setattr(replaced_file, "LARGEST_SIZE_BYTES", 10)
    with pytest.raises(InputError, match="larger than"):
        content(str(tmp_path / "large"))


def test_a_file_as_large_as_may_be_is_read(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(b"x" * 10)
    monkeypatch.setattr(replaced_file, "LARGEST_SIZE_BYTES", 10)
    assert content(str(tmp_path / "large")) == b"x" * 10


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        ReplacedFile(str(tmp_path / "none")).read()
