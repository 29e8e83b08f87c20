import asyncio
import subprocess
import sys

import pytest

from monitoring import _context


@pytest.fixture(autouse=True)
def _nobody_before_and_after():
    _context.unbind()
    yield
    _context.unbind()


def test_nobody_is_at_work_at_first():
    assert _context.identities() == (None, None, None)
    assert _context.span_ids() is None
    assert _context.current_trace_id() is None


def test_identities_are_bound_for_a_block_and_added_to_those_around():
    with _context.bind(user_id=7, session_id="s"):
        with _context.bind(request_id="r") as here:
            assert here == ("r", "7", "s")
        assert _context.identities() == (None, "7", "s")
    assert _context.identities() == (None, None, None)


def test_identities_bound_without_a_block_stay_in_their_task_and_no_other():
    async def request(number):
        _context.bind(user_id=number)
        await asyncio.sleep(0)
        return _context.identities().user_id

    async def both():
        return await asyncio.gather(request(1), request(2))

    assert asyncio.run(both()) == ["1", "2"]
    assert _context.identities().user_id is None


def test_a_request_keeps_the_identity_it_brings():
    token = _context.enter_request([(b"host", b"x"), (b"x-request-id", b"req-42")])
    assert _context.identities() == ("req-42", None, None)
    _context.leave_request(token)
    assert _context.identities().request_id is None


@pytest.mark.parametrize("given", [b"", b"two words", b"\xff\xfe", b"x" * 129, b"line\nbreak"])
def test_a_request_with_an_unfit_identity_gets_a_new_one(given):
    _context.enter_request([(b"x-request-id", given)])
    identity = _context.identities().request_id
    assert identity is not None
    assert len(identity) == 32
    assert set(identity) <= set("0123456789abcdef")


def test_a_request_is_not_at_work_for_the_user_of_the_one_before():
    _context.bind(user_id="1", session_id="s")
    _context.enter_request([])
    assert _context.identities()[1:] == (None, None)


def test_when_the_application_stops_everybody_is_asked_even_after_one_fails(monkeypatch):
    asked = []

    def fails():
        asked.append("fails")
        raise RuntimeError

    monkeypatch.setattr(_context, "_at_stop", [])
    _context.at_stop(fails)
    _context.at_stop(fails)
    _context.at_stop(lambda: asked.append("delivers"))
    _context.application_stopped()
    assert asked == ["fails", "delivers"]


def test_only_a_trace_that_is_sent_is_an_exemplar(monkeypatch):
    monkeypatch.setattr(_context, "open_span", lambda: _context.SpanIds("ab" * 16, "cd" * 8, True))
    assert _context.current_trace_id() == "ab" * 16
    monkeypatch.setattr(_context, "open_span", lambda: _context.SpanIds("ab" * 16, "cd" * 8, False))
    assert _context.current_trace_id() is None
    monkeypatch.setattr(_context, "open_span", lambda: None)
    assert _context.current_trace_id() is None


@pytest.mark.parametrize("module", ["_context", "structured_logging", "opentelemetry_tracing"])
def test_importing_starts_nothing_and_imports_nothing_heavy(module):
    program = f"""
import sys, threading
import monitoring.{module}
heavy = {{"opentelemetry", "google", "requests", "fastapi", "msgspec", "ssl", "http.client", "novel_agent", "grpc"}}
print(sorted(heavy & set(sys.modules)), threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[] 1\n"
