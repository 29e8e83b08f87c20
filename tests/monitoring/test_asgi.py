import asyncio
import contextlib
import time

import pytest
from asgi_client import ask, http_scope, talk
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, Router

from monitoring import _asgi, _context, _routes
from monitoring.prometheus_metrics import metrics_collector, setup_prometheus_endpoint


@pytest.fixture(autouse=True)
def _nothing_counted():
    metrics_collector.forget()
    yield
    metrics_collector.forget()


def counted():
    """(method, endpoint, status) of every request, with how often."""
    family = metrics_collector.get_metrics_dict().get("http_requests_total", {"samples": []})
    return {
        (s["labels"]["method"], s["labels"]["endpoint"], s["labels"]["status_code"]): s["value"]
        for s in family["samples"]
    }


def samples(family, name):
    found = metrics_collector.get_metrics_dict()[family]["samples"]
    return {tuple(sorted(s["labels"].items())): s["value"] for s in found if s["name"] == name}


def service():
    """Routers in routers, the same router twice, mounts with and without parameters, plain routes, a catch-all."""
    app = FastAPI()
    setup_prometheus_endpoint(app)
    chapters = APIRouter(prefix="/chapters")
    stories = APIRouter(prefix="/stories")

    @chapters.get("/{number}")
    async def chapter(number: int):
        return number

    @stories.get("/{story_id}")
    async def story(story_id: int):
        return story_id

    @stories.get("/files/{path:path}")
    async def file(path: str):
        return path

    @stories.websocket("/{story_id}/live")
    async def live(socket: WebSocket, story_id: int):
        await socket.accept()
        await socket.send_text("once")
        await socket.close(1000)

    stories.include_router(chapters)
    app.include_router(stories, prefix="/api")
    app.include_router(stories, prefix="/v2")
    tenant = FastAPI()
    tenant.include_router(stories, prefix="/shared")

    @tenant.get("/characters/{name}")
    async def character(name: str):
        return name

    app.mount("/tenants/{tenant}", tenant)
    app.mount("/admin", tenant)
    app.mount("/static", PlainTextResponse("a file"))
    app.add_route("/plain/{word}", lambda request: PlainTextResponse("plain"))
    return app


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/api/stories/3", "/api/stories/{story_id}"),
        ("/v2/stories/3", "/v2/stories/{story_id}"),
        ("/api/stories/chapters/7", "/api/stories/chapters/{number}"),
        ("/api/stories/files/a/b.txt", "/api/stories/files/{path:path}"),
        ("/tenants/acme/characters/ada", "/tenants/{tenant}/characters/{name}"),
        ("/admin/characters/ada", "/admin/characters/{name}"),
        ("/tenants/acme/shared/stories/5", "/tenants/{tenant}/shared/stories/{story_id}"),
        ("/tenants/acme/shared/stories/chapters/5", "/tenants/{tenant}/shared/stories/chapters/{number}"),
        ("/static/logo.png", "/static/{path}"),
        ("/plain/word", "/plain/{word}"),
        ("/docs", "/docs"),
        ("/openapi.json", "/openapi.json"),
    ],
)
async def test_the_endpoint_is_the_template_with_the_prefixes_of_routers_and_mounts(path, template):
    app = service()
    assert (await ask(app, path)).status == 200
    assert (await ask(app, path)).status == 200
    assert counted() == {("GET", template, "200"): 2}


@pytest.mark.parametrize("path", ["/nothing", "/tenants/acme/nothing", "/api/stories/1/2/3", "/wp-login.php"])
async def test_what_no_route_matched_is_unmatched(path):
    assert (await ask(service(), path)).status == 404
    assert counted() == {("GET", "unmatched", "404"): 1}


async def test_a_method_that_the_route_has_not_keeps_its_template():
    assert (await ask(service(), "/api/stories/3", "DELETE")).status == 405
    assert counted() == {("DELETE", "/api/stories/{story_id}", "405"): 1}


async def test_a_route_that_answers_404_itself_keeps_its_template():
    app = FastAPI()
    setup_prometheus_endpoint(app)

    @app.get("/stories/{story_id}")
    async def story(story_id: int):
        return PlainTextResponse("gone", 404)

    await ask(app, "/stories/1")
    assert counted() == {("GET", "/stories/{story_id}", "404"): 1}


async def test_methods_nobody_knows_share_one_label():
    app = service()
    for method in ("BREW", "HACK1", "HACK2"):
        await ask(app, "/nothing", method)
    assert counted() == {("OTHER", "unmatched", "404"): 3}


async def test_under_a_root_path_the_template_has_it_not():
    app = service()
    assert (await ask(app, "/gateway/api/stories/3", root_path="/gateway")).status in (200, 404)
    assert (await ask(app, "/gateway/metrics", root_path="/gateway")).status == 200
    assert {endpoint for _, endpoint, _ in counted()} <= {"/api/stories/{story_id}", "unmatched"}


async def test_plain_starlette_with_mounts_and_hosts():
    inner = Router([Route("/leaf/{n}", lambda request: PlainTextResponse("leaf"))])
    routes = [Mount("/outer/{a}", routes=[Mount("/inner/{b}", app=inner)]), Host("{sub}.example.org", app=inner)]
    app = Starlette(routes=routes)
    setup_prometheus_endpoint(app)
    assert (await ask(app, "/outer/1/inner/2/leaf/3")).status == 200
    assert counted() == {("GET", "/outer/{a}/inner/{b}/leaf/{n}", "200"): 1}


async def test_one_function_behind_two_plain_routes_is_told_apart():
    def answer(request):
        return PlainTextResponse("x")

    app = Starlette(routes=[Route("/old/{n}", answer), Route("/new/{n}", answer)])
    setup_prometheus_endpoint(app)
    await ask(app, "/old/1")
    await ask(app, "/new/1")
    assert counted() == {("GET", "/old/{n}", "200"): 1, ("GET", "/new/{n}", "200"): 1}


async def test_routes_added_after_the_set_up_and_after_the_first_request_are_known():
    app = FastAPI()
    setup_prometheus_endpoint(app)
    assert (await ask(app, "/late/1")).status == 404

    @app.get("/late/{n}")
    async def late(n: int):
        return n

    assert (await ask(app, "/late/1")).status == 200
    assert counted()["GET", "/late/{n}", "200"] == 1


class _Copying:
    """A middleware that gives its application a scope of its own."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(dict(scope), receive, send)


class _Gathering(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


@pytest.mark.parametrize("middleware", [_Copying, _Gathering])
async def test_the_template_is_found_through_middleware_of_the_applications_own(middleware):
    app = FastAPI()
    app.add_middleware(middleware)
    setup_prometheus_endpoint(app)

    @app.get("/x/{n}")
    async def x(n: int):
        return n

    assert (await ask(app, "/x/1")).status == 200
    assert counted() == {("GET", "/x/{n}", "200"): 1}


async def test_the_middleware_costs_less_than_30_microseconds_a_request():
    """The least of many batches: what the machine does beside it is not what is measured."""

    class Taken:
        path = "/stories/{story_id}"

    async def bare(scope, receive, send):
        scope["route"] = Taken
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def sink(message):
        pass

    async def batch(app):
        scopes = [http_scope("/stories/3", accept="*/*", user_agent="test") for _ in range(200)]
        began_at = time.process_time()
        for scope in scopes:
            await app(scope, None, sink)
        return (time.process_time() - began_at) / 200

    application = Starlette()
    measured = _asgi.Middleware(bare, _asgi.Application(application))
    without = min([await batch(bare) for _ in range(40)])
    assert min([await batch(measured) for _ in range(40)]) - without < 30e-6


class _Route:
    path = "/api/stories/{story_id}"


def test_older_fastapi_keeps_the_prefixes_in_the_route_itself():
    templates = _routes.Templates(Starlette())
    scope = http_scope("/api/stories/3") | {"route": _Route(), "endpoint": print}
    assert templates.of(scope, "/api/stories/3", "", 200) == "/api/stories/{story_id}"


def test_older_starlette_says_the_endpoint_only_and_cuts_the_path_of_a_mount():
    def leaf(request):
        return PlainTextResponse("leaf")

    app = Starlette(routes=[Mount("/outer/{a}", routes=[Route("/leaf/{n}", leaf)])])
    scope = http_scope("/leaf/3", root_path="/outer/1") | {"endpoint": leaf}
    assert _routes.Templates(app).of(scope, "/outer/1/leaf/3", "", 200) == "/outer/{a}/leaf/{n}"


async def test_an_application_within_another_counts_once():
    inner, outer = FastAPI(), FastAPI()

    @inner.get("/x/{n}")
    async def x(n: int):
        return n

    outer.mount("/inner", inner)
    for app in (inner, outer, inner, outer):
        setup_prometheus_endpoint(app)
    assert (await ask(outer, "/inner/x/1")).status == 200
    assert counted() == {("GET", "/inner/x/{n}", "200"): 1}


async def test_an_exception_counts_as_500_and_goes_on():
    app = FastAPI()
    setup_prometheus_endpoint(app)

    @app.get("/fails")
    async def fails():
        raise RuntimeError("out of ideas")

    answer = await ask(app, "/fails")
    assert answer.status == 500
    assert isinstance(answer.error, RuntimeError)
    assert counted() == {("GET", "/fails", "500"): 1}
    assert samples("http_errors_total", "http_errors_total") == {
        (("endpoint", "/fails"), ("method", "GET"), ("status_code", "500")): 1
    }


async def test_a_client_error_is_no_error_of_the_server():
    await ask(service(), "/nothing")
    assert "http_errors_total" not in metrics_collector.get_metrics_dict()


async def test_a_stream_passes_part_by_part_and_counts_once_at_its_end():
    app = FastAPI()
    setup_prometheus_endpoint(app)
    seen = []

    @app.get("/stream")
    async def stream():
        async def parts():
            for part in (b"once ", b"upon ", b"a time"):
                seen.append(dict(counted()))
                yield part

        return StreamingResponse(parts())

    answer = await ask(app, "/stream")
    assert [m.get("body") for m in answer.messages[1:]] == [b"once ", b"upon ", b"a time", b""]
    assert seen == [{}, {}, {}]
    assert counted() == {("GET", "/stream", "200"): 1}


async def test_a_stream_that_breaks_counts_as_500():
    app = FastAPI()
    setup_prometheus_endpoint(app)

    @app.get("/stream")
    async def stream():
        async def parts():
            yield b"once "
            raise RuntimeError("the pen broke")

        return StreamingResponse(parts())

    await ask(app, "/stream")
    assert counted() == {("GET", "/stream", "500"): 1}


async def test_background_tasks_are_not_part_of_the_duration():
    app = FastAPI()
    setup_prometheus_endpoint(app)
    during = {}

    async def later():
        during.update(counted())

    @app.get("/")
    async def root():
        return PlainTextResponse("x", background=BackgroundTask(later))

    await ask(app, "/")
    assert during == {("GET", "/", "200"): 1}
    assert counted() == {("GET", "/", "200"): 1}


async def test_a_request_cancelled_before_its_answer_counts_as_499():
    app = FastAPI()
    setup_prometheus_endpoint(app)
    began = asyncio.Event()

    @app.get("/slow")
    async def slow():
        began.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(ask(app, "/slow"))
    await began.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert counted() == {("GET", "/slow", "499"): 1}


async def test_a_websocket_counts_with_its_template_and_code_and_not_as_a_request():
    app = service()
    answer = await talk(app, "/api/stories/3/live")
    assert [m["type"] for m in answer.messages] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert counted() == {}
    assert samples("websocket_connections_total", "websocket_connections_total") == {
        (("close_code", "1000"), ("endpoint", "/api/stories/{story_id}/live")): 1
    }
    assert samples("websocket_connections_active", "websocket_connections_active") == {(): 0}
    assert samples("websocket_connection_duration_seconds", "websocket_connection_duration_seconds_count") == {
        (("endpoint", "/api/stories/{story_id}/live"),): 1
    }


async def test_a_websocket_left_by_its_client_has_the_clients_code():
    app = FastAPI()
    setup_prometheus_endpoint(app)

    @app.websocket("/ws/{room}")
    async def ws(socket: WebSocket, room: str):
        await socket.accept()
        while True:
            await socket.receive_text()

    await talk(app, "/ws/1", {"type": "websocket.receive", "text": "hello"})
    assert samples("websocket_connections_total", "websocket_connections_total") == {
        (("close_code", "1001"), ("endpoint", "/ws/{room}")): 1
    }


async def test_a_websocket_without_a_route_is_refused_and_unmatched():
    await talk(service(), "/nowhere")
    assert samples("websocket_connections_total", "websocket_connections_total") == {
        (("close_code", "403"), ("endpoint", "unmatched")): 1
    }


async def test_the_set_up_may_come_when_the_application_serves_already():
    app = FastAPI()

    @app.get("/x")
    async def x():
        return 1

    await ask(app, "/x")
    setup_prometheus_endpoint(app)
    setup_prometheus_endpoint(app)
    assert (await ask(app, "/x")).status == 200
    assert counted() == {("GET", "/x", "200"): 1}
    assert (await ask(app, "/metrics")).status == 200


async def test_a_route_of_the_applications_own_wins_and_that_is_logged_once(caplog):
    app = FastAPI()
    setup_prometheus_endpoint(app, path="/own-metrics")

    @app.get("/own-metrics")
    async def own():
        return PlainTextResponse("mine")

    for _ in range(3):
        assert (await ask(app, "/own-metrics")).body == b"mine"
    assert [r.getMessage() for r in caplog.records] == [
        "the application has a route of its own there, which stays: /own-metrics"
    ]


async def test_a_catch_all_does_not_own_the_page():
    app = FastAPI()
    app.mount("/", PlainTextResponse("everything"))
    setup_prometheus_endpoint(app)
    assert b"http_request" in (await ask(app, "/metrics")).body or (await ask(app, "/metrics")).status == 200
    assert (await ask(app, "/other")).body == b"everything"


async def test_a_mount_at_the_pages_path_owns_it():
    app = FastAPI()
    app.mount("/mounted-metrics", PlainTextResponse("theirs"))
    setup_prometheus_endpoint(app, path="/mounted-metrics")
    assert (await ask(app, "/mounted-metrics/")).body == b"theirs"


async def test_the_librarys_own_pages_are_not_counted():
    app = service()
    await ask(app, "/metrics")
    await ask(app, "/metrics", "HEAD")
    assert counted() == {}


def test_what_is_no_application_is_said_and_does_not_raise(caplog):
    setup_prometheus_endpoint(object())
    assert "not an application that can be measured" in caplog.text


async def test_each_request_has_an_identity_of_its_own_which_ends_with_it():
    app = FastAPI()
    setup_prometheus_endpoint(app)

    @app.get("/who")
    async def who():
        return PlainTextResponse(_context.identities().request_id)

    assert (await ask(app, "/who", x_request_id="abc")).body == b"abc"
    one, other = (await ask(app, "/who")).body, (await ask(app, "/who")).body
    assert one != other
    assert _context.identities().request_id is None


async def test_the_span_is_told_the_status_the_template_and_the_error(monkeypatch):
    told = []

    class Span:
        def end(self, status_code, route, error=None):
            told.append((status_code, route, error))

    monkeypatch.setattr(_context, "start_server_span", lambda scope: Span())
    app = FastAPI()
    setup_prometheus_endpoint(app)

    @app.get("/x/{n}")
    async def x(n: int):
        if n == 0:
            raise RuntimeError("zero")
        return n

    await ask(app, "/x/1")
    failed = await ask(app, "/x/0")
    assert told == [(200, "/x/{n}", None), (500, "/x/{n}", failed.error)]


async def test_a_sampled_trace_is_the_exemplar_of_the_duration(monkeypatch):
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    monkeypatch.setattr(_context, "open_span", lambda: _context.SpanIds(trace_id, span_id, True))
    app = service()
    await ask(app, "/api/stories/3")
    page = (await ask(app, "/metrics", accept="application/openmetrics-text;version=1.0.0")).body.decode()
    marked = [line for line in page.splitlines() if " # {" in line]
    assert len(marked) == 1
    assert f'span_id="{span_id}",trace_id="{trace_id}"' in marked[0]
    assert marked[0].startswith('http_request_duration_seconds_bucket{endpoint="/api/stories/{story_id}",le="0.')


async def test_a_trace_that_is_not_sent_is_no_exemplar(monkeypatch):
    monkeypatch.setattr(_context, "open_span", lambda: _context.SpanIds("0" * 31 + "1", "0" * 15 + "1", False))
    app = service()
    await ask(app, "/api/stories/3")
    assert b" # {" not in (await ask(app, "/metrics", accept="application/openmetrics-text;version=1.0.0")).body


async def test_what_is_no_request_passes_untouched():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    middleware = _asgi.Middleware(app, _asgi.Application(Starlette()))
    await middleware({"type": "something.new"}, None, None)
    assert seen == ["something.new"]


async def test_the_lag_of_the_loop_is_measured_without_being_asked_for():
    app = FastAPI()
    setup_prometheus_endpoint(app)
    await ask(app, "/")
    _asgi.lag._came(asyncio.get_running_loop(), asyncio.get_running_loop().time() - 0.3)
    assert samples("python_event_loop_lag_seconds", "python_event_loop_lag_seconds_count") == {(): 1}
