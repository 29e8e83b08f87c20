"""A real Prometheus 3 as the receiver of remote write: its series are those of /metrics."""

import asyncio
import json
import math
import threading
import time
import urllib.parse
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from novel_agent.config.schema import Config, Export, ProcessGroup
from novel_agent.errors import OutputRejected
from novel_agent.model.batch import Batch
from novel_agent.model.metric import Block, Family, Series, Shape
from novel_agent.outputs.remote_write import RemoteWriteOutput
from novel_agent.runtime.build import make_isolation, make_sampler
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.wire.prometheus import TEXT_CONTENT_TYPE, render_text
from novel_agent.wire.prometheus_text import parse_text
from novel_agent.wire.remote_write import RemoteWriteEncoder

pytestmark = pytest.mark.interop

EXTERNAL = (("instance", "host-1"), ("job", "novel-engine-agent"))
SECONDS = Family("request_seconds", "Time taken.", "histogram", ("path",))
FREE = Family("memory_free_bytes", "Free memory.")
TOTAL = Family("requests_total", "Requests.", "counter")


@pytest.fixture
def prometheus(tmp_path, rival):
    """Start a Prometheus that receives; gives its URL."""

    def start(*features: str, configuration: str = "global: {}\n") -> str:
        (tmp_path / "prometheus.yml").write_text(configuration)
        return rival(
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            "--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
            *features,
            ready="/-/ready",
        )

    return start


@pytest.fixture
async def output():
    made = []

    async def start(endpoint, version):
        config = Export(name="central", type="prometheus_remote_write", endpoint=endpoint, remote_write_version=version)
        made.append(RemoteWriteOutput(config))
        await made[-1].start()
        return made[-1]

    yield start
    for one in made:
        await one.stop()


def query(url, expression, at_seconds):
    asked = urllib.parse.urlencode({"query": expression, "time": f"{at_seconds:.3f}"})
    with urllib.request.urlopen(f"{url}/api/v1/query?{asked}", timeout=30) as answer:
        result = json.load(answer)["data"]["result"]
    return {frozenset(each["metric"].items()): float(each["value"][1]) for each in result}


def shown(blocks):
    """What the page says, with the labels that the sender adds and without empty ones."""
    return {
        frozenset(
            {
                "__name__": family.name + sample.suffix,
                **dict(EXTERNAL),
                **{name: value for name, value in sample.labels if value},
            }.items()
        ): sample.value
        for family in parse_text(render_text(blocks))
        for sample in family.samples
    }


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        value == theirs[series] or (math.isnan(value) and math.isnan(theirs[series])) for series, value in ours.items()
    )


async def sampled():
    """A reading of this host and its processes under the names of /metrics."""
    config = Config(processes=(ProcessGroup(name="{comm}"),))
    left_behind = LeftBehind()
    isolate = make_isolation(config, left_behind)
    sampler = make_sampler(config, left_behind, isolate)
    try:
        return sampler.families(await sampler.sample())
    finally:
        await sampler.close()
        isolate.close()


@pytest.mark.parametrize("version", ["2.0", "1.0"])
async def test_its_series_equal_what_the_page_shows(prometheus, output, version):
    url = prometheus()
    histogram = Block(
        Shape(
            [
                Series(SECONDS, (("path", "/a"), ("le", "0.5")), "_bucket"),
                Series(SECONDS, (("path", "/a"), ("le", "+Inf")), "_bucket"),
                Series(SECONDS, (("path", "/a"),), "_sum"),
                Series(SECONDS, (("path", "/a"),), "_count"),
            ]
        ),
        (3, 4, 1.25, 4),
    )
    odd = Block(Shape([FREE.series(), TOTAL.series()]), (math.nan, math.inf))
    blocks = [*await sampled(), histogram, odd]
    now = time.time()
    batch = RemoteWriteEncoder().encode(blocks, int(now * 1e9), EXTERNAL)
    delivered = await (await output(url, version)).send(batch)
    assert (delivered.rejected_items, delivered.message) == (0, "")
    ours, theirs = shown(blocks), query(url, '{__name__=~".+"}', now)
    assert len(ours) == batch.items > 300
    assert ours.keys() - theirs.keys() == set()
    assert theirs.keys() - ours.keys() == set()
    assert same(ours, theirs)


@contextmanager
def page(content):
    """A server that shows this page; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", TEXT_CONTENT_TYPE)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def test_what_is_written_equals_what_a_scrape_of_the_page_stores(prometheus, output):
    bucket = Series(SECONDS, (("path", "/a"), ("le", "1")), "_bucket")
    rest = [Series(SECONDS, (("path", "/a"),), suffix) for suffix in ("_sum", "_count")]
    blocks = [*await sampled(), Block(Shape([bucket, *rest]), (3, 1.25, 3))]
    with page(render_text(blocks)) as target:
        url = prometheus(
            configuration="global: {scrape_interval: 1s}\n"
            f"scrape_configs: [{{job_name: scraped, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )
        deadline = time.monotonic() + 30
        while not query(url, 'up{job="scraped"} == 1', time.time()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        now = time.time()
        batch = RemoteWriteEncoder().encode(blocks, int(now * 1e9), (("instance", target), ("job", "written")))
        await (await output(url, "2.0")).send(batch)
        scraped, written = (without_job(query(url, f'{{job="{job}"}}', now)) for job in ("scraped", "written"))
    added = {series for series in scraped if dict(series)["__name__"].startswith(("up", "scrape_"))}
    assert len(added) == 5
    assert same(written, {series: value for series, value in scraped.items() if series not in added})


def without_job(series):
    return {frozenset(item for item in key if item[0] != "job"): value for key, value in series.items()}


@pytest.mark.parametrize("version", ["2.0", "1.0"])
async def test_a_series_that_ended_is_gone_at_once_and_a_joined_backlog_arrives_whole(prometheus, output, version):
    url = prometheus()
    encoder, now = RemoteWriteEncoder(), time.time()
    both, one = Shape([FREE.series(), TOTAL.series()]), Shape([FREE.series()])
    readings = [[Block(both, (1, 10))], [Block(both, (2, 11))], [Block(one, (3,))]]
    batches = [
        encoder.encode(blocks, int((now - 30 + 15 * number) * 1e9), EXTERNAL) for number, blocks in enumerate(readings)
    ]
    backlog = Batch("metrics", b"".join(batch.payload for batch in batches), sum(batch.items for batch in batches))
    assert (await (await output(url, version)).send(backlog)).rejected_items == 0
    assert list(query(url, "requests_total", now - 1).values()) == [11.0]
    assert query(url, "requests_total", now) == {}
    assert list(query(url, "count_over_time(memory_free_bytes[1m])", now).values()) == [3.0]


async def test_what_is_out_of_order_is_final_and_the_rest_is_written(prometheus, output):
    url = prometheus()
    now = time.time()
    encoder = RemoteWriteEncoder()
    free, total = Shape([FREE.series()]), Shape([TOTAL.series()])
    for version in ("2.0", "1.0"):
        receiver = await output(url, version)
        await receiver.send(encoder.encode([Block(free, (1,))], int(now * 1e9), EXTERNAL))
        late = RemoteWriteEncoder().encode([Block(free, (2,))], int((now - 60) * 1e9), EXTERNAL)
        with pytest.raises(OutputRejected, match="out of order") as caught:
            await receiver.send(late)
        assert caught.value.reason == "http_400"
    mixed = RemoteWriteEncoder().encode([Block(free, (2,)), Block(total, (7,))], int((now - 60) * 1e9), EXTERNAL)
    partly = await (await output(url, "2.0")).send(mixed)
    assert partly.rejected_items == 1
    assert "out of order" in partly.message
    assert list(query(url, "requests_total", now).values()) == [7.0]


@pytest.mark.parametrize("version", ["2.0", "1.0"])
async def test_a_request_whose_answer_was_lost_may_be_sent_again(prometheus, output, version):
    url = prometheus()
    now = time.time()
    batch = RemoteWriteEncoder().encode([Block(Shape([FREE.series()]), (1,))], int(now * 1e9), EXTERNAL)
    receiver = await output(url, version)
    for _ in range(2):
        assert (await receiver.send(batch)).rejected_items == 0
    assert list(query(url, "memory_free_bytes", now).values()) == [1.0]


async def test_the_type_of_a_family_arrives_with_2_0(prometheus, output):
    url = prometheus("--enable-feature=type-and-unit-labels")
    now = time.time()
    shape = Shape([FREE.series(), TOTAL.series(), SECONDS.series("/a", suffix="_count")])
    batch = RemoteWriteEncoder().encode([Block(shape, (1, 2, 3))], int(now * 1e9), EXTERNAL)
    await (await output(url, "2.0")).send(batch)
    types = {dict(series)["__name__"]: dict(series)["__type__"] for series in query(url, '{__name__=~".+"}', now)}
    assert types == {"memory_free_bytes": "gauge", "requests_total": "counter", "request_seconds_count": "histogram"}


@pytest.mark.parametrize("version", ["2.0", "1.0"])
async def test_an_empty_request_is_taken(prometheus, output, version):
    await (await output(prometheus(), version)).send(Batch("metrics", b"", 0))


async def test_a_prometheus_that_is_no_receiver_says_so(tmp_path, rival, output):
    (tmp_path / "prometheus.yml").write_text("global: {}\n")
    url = rival(
        "prometheus",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        "--web.listen-address=127.0.0.1:{port}",
        ready="/-/ready",
    )
    with pytest.raises(OutputRejected, match=r"answered 404: remote write receiver needs to be enabled"):
        await (await output(url, "2.0")).send(Batch("metrics", b"", 0))
