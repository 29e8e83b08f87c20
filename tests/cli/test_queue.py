"""`novel-agent queue`, in this process, on spools that are made for it."""

import json

import pytest
from spool_made import MIB, batch, segments, spool

from novel_agent.cli import run_command_line
from novel_agent.model.batch import Batch
from novel_agent.state.spool import spool_directory
from novel_agent.wire.protobuf import length_delimited, read_varint

PAYLOAD = length_delimited(1, b"")


@pytest.fixture
async def state(tmp_path):
    """A state directory: `central` has five batches in two signals, of which one is acknowledged; `a/b` has nothing."""
    batches = [Batch("metrics", PAYLOAD, items) for items in (1, 2, 3)]
    async with spool(spool_directory(str(tmp_path), "central"), MIB, *batches, request_bytes=1) as queue:
        await queue.put(batch("x" * 50_000, "logs", 7))
        await queue.put(batch("y" * 50_000, "logs", 8))
        assert queue.acknowledge(await queue.take())
    async with spool(spool_directory(str(tmp_path), "a/b"), MIB):
        pass
    return tmp_path


def run(state, *arguments):
    return run_command_line(["queue", *arguments, "--state-dir", str(state)])


def test_the_state_directory_is_the_one_configured(state, tmp_path, capsys):
    config = tmp_path / "agent.yaml"
    config.write_text(f"agent: {{state_dir: {state}}}\n")
    assert run_command_line(["queue", "ls", "--config", str(config)]) == 0
    assert "central" in capsys.readouterr().out


def test_ls_says_what_waits(state, capsys):
    assert run(state, "ls", "central") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["DESTINATION", "SIGNAL", "SEGMENTS", "SIZE", "ITEMS", "OLDEST", "ACKNOWLEDGED"]
    assert rows[1][:6] == ["central", "metrics", "1", "52", "B", "5"]
    assert rows[2][:6] == ["central", "logs", "2", "97.7", "KiB", "15"]
    assert rows[1][-1] == "1:34"


def test_ls_for_programs(state, capsys):
    assert run(state, "ls", "--json") == 0
    reports = json.loads(capsys.readouterr().out)
    assert [(report["destination"], report["signal"]) for report in reports[:1]] == [("a/b", "metrics")]
    (metrics,) = [report for report in reports if report["destination"] == "central" and report["signal"] == "metrics"]
    assert metrics.pop("oldest_unix_seconds") == pytest.approx(1_800_000_000, abs=1)
    assert metrics == {
        "destination": "central",
        "signal": "metrics",
        "segments": 1,
        "size_bytes": 52,
        "items": 5,
        "acknowledged": [1, 34],
    }


def test_without_any_spool_ls_says_so(tmp_path, capsys):
    assert run(tmp_path, "ls") == 0
    assert capsys.readouterr().out == "No spool holds anything.\n"


def test_a_destination_without_a_spool_is_a_mistake(state, capsys):
    assert run(state, "ls", "centrul") == 2
    assert "no spool of 'centrul'" in capsys.readouterr().err


def test_verify_of_what_is_well(state, capsys):
    assert run(state, "verify", "central") == 0
    out = capsys.readouterr().out
    assert "central metrics: 2 records in 1 segments, 52 B, 5 items\n" in out
    assert "central logs: 2 records in 2 segments, 97.7 KiB, 15 items\n" in out
    assert out.endswith("All that waits can be read.\n")


def test_verify_finds_a_flipped_bit(state, capsys):
    flip(state, 1000)
    assert run(state, "verify", "--json") == 1
    (logs,) = [each for each in json.loads(capsys.readouterr().out) if each["damages"]]
    assert logs["damages"] == [{"segment": 1, "fault": "damaged", "offset": 8, "lost_bytes": 50_048}]
    assert (logs["records"], logs["items"], logs["cut_off"]) == (1, 8, False)


def test_a_record_that_is_being_written_is_no_damage(state, capsys):
    newest = segments(state / "spool" / "central", "logs")[-1]
    with newest.open("r+b") as file:
        file.truncate(40_000)
    assert run(state, "verify") == 0
    assert "the last record cut off" in capsys.readouterr().out


def flip(state, offset):
    with segments(state / "spool" / "central", "logs")[0].open("r+b") as file:
        file.seek(offset)
        file.write(b"?")


def test_looking_changes_nothing(state, capsys):
    def content():
        return {path: path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file()}

    flip(state, 1000)
    before = content()
    for arguments in (("ls",), ("verify",), ("export", "central")):
        run(state, *arguments)
    assert content() == before
    capsys.readouterr()


def test_export_as_json_is_a_request_a_line(state, tmp_path, capsysbinary):
    assert run(state, "export", "central", "--signal", "metrics") == 0
    lines = capsysbinary.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"resourceMetrics": [{}]}] * 2


def test_export_as_protobuf_has_each_request_behind_its_length(state, tmp_path):
    output = tmp_path / "out"
    assert run(state, "export", "central", "--format", "protobuf", "--output", str(output)) == 0
    content, position, requests = memoryview(output.read_bytes()), 0, []
    while position < len(content):
        size, position = read_varint(content, position)
        requests.append(bytes(content[position : position + size]))
        position += size
    assert requests == [PAYLOAD, PAYLOAD, b"x" * 50_000, b"y" * 50_000]


def test_export_goes_on_behind_what_is_damaged(state, tmp_path, capsys):
    flip(state, 1000)
    output = tmp_path / "out"
    assert run(state, "export", "central", "--signal", "logs", "--format", "protobuf", "--output", str(output)) == 1
    assert output.read_bytes()[3:] == b"y" * 50_000
    assert "logs: segment 1" in capsys.readouterr().err


def test_export_overwrites_nothing(state, tmp_path, capsys):
    output = tmp_path / "out"
    output.write_text("mine")
    assert run(state, "export", "central", "--output", str(output)) == 2
    assert output.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err


def test_what_is_not_otlp_is_said_in_json_and_the_rest_written(state, tmp_path, capsys):
    assert run(state, "export", "central", "--signal", "logs", "--output", str(tmp_path / "out")) == 1
    assert "logs: " in capsys.readouterr().err
