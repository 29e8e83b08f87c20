import msgspec

from novel_agent.runtime.once import OnceResult
from novel_agent.runtime.status import Overview, Status

from .conftest import Running


async def test_status_is_the_value_the_command_line_reads(agent: Running) -> None:
    status = msgspec.json.decode((await agent.ask("/api/v1/status")).body, type=Status)
    assert status.listen == f"http://127.0.0.1:{agent.port}/"
    assert {"cpu", "loadavg"} <= {component.name for component in status.components}
    assert status.health.status == "healthy"
    assert status.resident_bytes > 1e6


async def test_the_overview_shows_the_host(agent: Running) -> None:
    overview = msgspec.json.decode((await agent.ask("/api/v1/system/overview")).body, type=Overview)
    assert overview.cpus is not None
    assert overview.cpus >= 1
    assert len(overview.load) == 3


async def test_an_input_is_run_on_demand(agent: Running) -> None:
    result = msgspec.json.decode((await agent.ask("/api/v1/inputs/loadavg/check")).body, type=OnceResult)
    assert result.state == "up"
    assert "\nnode_load1 " in result.yields


async def test_an_input_that_is_not_on_is_404(agent: Running) -> None:
    for name in ["meminfo", "no%2Fsuch"]:
        reply = await agent.ask(f"/api/v1/inputs/{name}/check")
        assert reply.status == 404
        assert reply.json()["errorType"] == "not_found"


async def test_errors_are_json_everywhere(agent: Running) -> None:
    missing = await agent.ask("/nothing")
    assert missing.status == 404
    assert missing.json() == {
        "status": "error",
        "errorType": "not_found",
        "error": "there is no /nothing; /openapi.json lists what there is",
    }
    wrong_method = await agent.ask("/metrics", "DELETE")
    assert wrong_method.status == 405
    assert wrong_method.headers["allow"] == "GET, HEAD"
    assert wrong_method.json()["errorType"] == "method_not_allowed"
    assert (await agent.ask("/-/reload")).headers["allow"] == "POST"
