import os
from pathlib import Path

import pytest

from novel_agent.inputs.host import textfile
from novel_agent.wire.prometheus import render_text


def page(collector) -> str:
    return render_text(collector.families(collector.read())).decode()


def samples(collector) -> list[str]:
    return [line for line in page(collector).splitlines() if line[0] != "#" and "_mtime_" not in line]


@pytest.fixture
def directory(tmp_path) -> Path:
    path = tmp_path / "textfile"
    path.mkdir()
    return path


@pytest.fixture
def files(directory, collector):
    """Write the files, and give the collector that reads their directory."""

    def make(**texts: str):
        for name, text in texts.items():
            (directory / f"{name}.prom").write_text(text)
        return collector("textfile", directories=(str(directory),))

    return make


def test_shows_what_a_file_says_and_when_it_was_written(files, directory):
    collector = files(
        backup="# HELP backup_size_bytes Last backup.\n# TYPE backup_size_bytes gauge\nbackup_size_bytes 5\n"
    )
    os.utime(directory / "backup.prom", ns=(0, 1_700_000_000_999_999_999))
    assert page(collector) == (
        "# HELP backup_size_bytes Last backup.\n# TYPE backup_size_bytes gauge\nbackup_size_bytes 5.0\n"
        "# HELP node_textfile_mtime_seconds Unixtime mtime of textfiles successfully read.\n"
        "# TYPE node_textfile_mtime_seconds gauge\n"
        f'node_textfile_mtime_seconds{{file="{directory}/backup.prom"}} 1700000000\n'
        "# HELP node_textfile_scrape_error 1 if there was an error opening or reading a file, 0 otherwise\n"
        "# TYPE node_textfile_scrape_error gauge\nnode_textfile_scrape_error 0\n"
    )


def test_files_of_other_names_are_left_alone(files, directory):
    (directory / "notes.txt").write_text("not metrics")
    (directory / "half.prom.1234").write_text("not metrics yet")
    assert samples(files()) == ["node_textfile_scrape_error 0"]


def test_without_directories_there_is_nothing_to_read(collector):
    assert samples(collector("textfile")) == ["node_textfile_scrape_error 0"]


def test_a_family_of_several_files_is_shown_once(files, directory):
    collector = files(
        a='# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{q="a"} 1\n',
        b='# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{q="b"} 2\n',
        c='# TYPE jobs_total counter\njobs_total{q="c"} 3\n',
    )
    assert page(collector).startswith(
        "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\n"
        'jobs_total{q="a"} 1.0\njobs_total{q="b"} 2.0\njobs_total{q="c"} 3.0\n'
    )
    assert samples(collector)[-1] == "node_textfile_scrape_error 0"


def test_a_family_without_help_names_its_files(files, directory):
    text = page(files(a='x{q="a"} 1\n', b='x{q="b"} 2\n'))
    assert f"# HELP x Metric read from {directory}/a.prom, {directory}/b.prom\n# TYPE x untyped\n" in text


def test_labels_that_only_some_series_have_are_empty_in_the_others(files):
    collector = files(a='x{b="1"} 1\nx{a="2"} 2\nx 3\n')
    assert samples(collector)[:3] == ['x{a="",b="1"} 1.0', 'x{a="2",b=""} 2.0', 'x{a="",b=""} 3.0']


def test_histograms_and_summaries_are_completed_and_ordered(files):
    collector = files(
        a=(
            '# TYPE size histogram\nsize_bucket{le="1000000"} 4\nsize_bucket{le="1.0"} 2\nsize_count 5\nsize_sum 9\n'
            '# TYPE wait summary\nwait{quantile="0.90",q="x"} 3\nwait{quantile="0.5"} 2\nwait_count 7\n'
        )
    )
    assert samples(collector)[:-1] == [
        'size_bucket{le="1"} 2.0',
        'size_bucket{le="1e+06"} 4.0',
        'size_bucket{le="+Inf"} 5.0',
        "size_sum 9.0",
        "size_count 5.0",
        'wait{q="x",quantile="0.9"} 3.0',
        'wait_sum{q="x"} 0.0',
        'wait_count{q="x"} 0.0',
        'wait{q="",quantile="0.5"} 2.0',
        'wait_sum{q=""} 0.0',
        'wait_count{q=""} 7.0',
    ]


def test_odd_numbers_pass(files):
    assert samples(files(a='x{v="1"} NaN\nx{v="2"} -Inf\nx{v="3"} 1e3\n'))[:3] == [
        'x{v="1"} NaN',
        'x{v="2"} -Inf',
        'x{v="3"} 1000.0',
    ]


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ("# HELP x Other.\n# TYPE x gauge\nx 2\n", "its help text differs from that in"),
        ("# TYPE x counter\nx 2\n", "is a counter, but a gauge in"),
        ("# TYPE x gauge\nx 2\n", "1 series stand there twice"),
        ("broken{\n", "line 1: not a sample"),
        ("y 1", "line 1: the text ends without a newline"),
        ("y 1 1395066363000\n", "y has a timestamp"),
    ],
)
def test_the_first_file_wins_and_the_error_is_shown(files, second, problem):
    collector = files(a="# HELP x One.\n# TYPE x gauge\nx 1\n", b=second)
    assert samples(collector) == ["x 1.0", "node_textfile_scrape_error 1"]
    (said,) = collector.read().problems
    assert "b.prom: " in said
    assert problem in said


def test_a_file_that_cannot_be_parsed_has_no_time(files):
    assert "node_textfile_mtime_seconds" not in page(files(a="nonsense\n"))


def test_a_name_that_another_collector_owns_is_refused(files):
    collector = files(a="node_load1 1\nmine 2\nnode_sysctl_vm_swappiness 10\n")
    collector.reserved = frozenset({"node_load1"})
    collector.reserved_patterns = frozenset({"node_sysctl_[a-z_]+", "node_vmstat_.*"})
    assert samples(collector) == ["mine 2.0", "node_textfile_scrape_error 1"]
    assert [problem.partition(".prom: ")[2] for problem in collector.read().problems] == [
        "node_load1: the name is another collector's",
        "node_sysctl_vm_swappiness: the name is another collector's",
    ]


@pytest.mark.parametrize("name", ["node_textfile_scrape_error", "node_textfile_mtime_seconds"])
def test_its_own_names_are_refused_too(files, name):
    assert samples(files(a=f"{name} 5\n")) == ["node_textfile_scrape_error 1"]


def test_a_histogram_may_not_hide_a_name_that_is_taken(files):
    collector = files(a='# TYPE x histogram\nx_bucket{le="1"} 1\nx_count 1\n', b="x_count 2\n", c="z_sum 1\n")
    collector.reserved = frozenset({"x_sum_of_all"})
    assert samples(collector)[-2:] == ["z_sum 1.0", "node_textfile_scrape_error 1"]
    assert collector.read().problems[0].endswith("b.prom: x_count: x_count is a series of x")


def test_a_replaced_file_is_read_again(files, directory):
    collector = files(a="x 1\n")
    assert samples(collector)[0] == "x 1.0"
    (directory / "new").write_text("x 2\ny 3\n")
    os.replace(directory / "new", directory / "a.prom")
    assert samples(collector)[:2] == ["x 2.0", "y 3.0"]
    (directory / "a.prom").unlink()
    assert samples(collector) == ["node_textfile_scrape_error 0"]


def test_files_that_stay_as_they_are_are_parsed_once(files, monkeypatch):
    collector = files(a="x 1\n")
    first = collector.read()
    monkeypatch.setattr(textfile, "parse_text", lambda data: pytest.fail("parsed again"))
    assert collector.read() is first


def test_an_error_goes_when_its_cause_does(files, directory):
    collector = files(a="nonsense\n")
    assert samples(collector) == ["node_textfile_scrape_error 1"]
    (directory / "a.prom").write_text("x 1\n")
    assert samples(collector) == ["x 1.0", "node_textfile_scrape_error 0"]


def test_directories_may_be_given_by_a_pattern(tmp_path, collector):
    for name in ("jobs-b", "jobs-a", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.prom").write_text(f'x{{from="{name}"}} 1\n')
    reader = collector("textfile", directories=(f"{tmp_path}/jobs-*", f"{tmp_path}/jobs-a"))
    assert samples(reader) == ['x{from="jobs-a"} 1.0', 'x{from="jobs-b"} 1.0', "node_textfile_scrape_error 0"]


def test_a_missing_directory_is_an_error_and_the_others_are_read(tmp_path, directory, collector):
    (directory / "a.prom").write_text("x 1\n")
    reader = collector("textfile", directories=(f"{tmp_path}/none", f"{tmp_path}/none-*", str(directory)))
    assert samples(reader) == ["x 1.0", "node_textfile_scrape_error 1"]
    assert len(reader.read().problems) == 2


def test_what_is_no_file_is_an_error_and_never_waited_for(directory, files):
    os.mkfifo(directory / "pipe.prom")
    (directory / "dangling.prom").symlink_to("nowhere")
    (directory / "directory.prom").mkdir()
    assert samples(files(a="x 1\n")) == ["x 1.0", "node_textfile_scrape_error 1"]
