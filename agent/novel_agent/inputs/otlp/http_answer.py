"""Answers over HTTP, as bytes: constant but for their date."""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from novel_agent.inputs.otlp.intake import Form
from novel_agent.inputs.otlp.refusal import CODE_OF_STATUS, UNKNOWN, WRONG_METHOD, Refused, whole_seconds
from novel_agent.serving.access import Refusal
from novel_agent.wire.otlp_response import encode_status, encode_status_json

CONTENT_TYPES: dict[Form, str] = {"protobuf": "application/x-protobuf", "json": "application/json"}
_EMPTY_ANSWERS: dict[Form, bytes] = {"protobuf": b"", "json": b"{}"}


class Answer:
    """A whole answer; without `keep_alive` the connection ends behind it."""

    __slots__ = ("_body", "_head", "keep_alive", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, *, keep_alive: bool) -> None:
        self.status = status
        self.keep_alive = keep_alive
        self._body = body
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "Server: novel-agent",
            "X-Content-Type-Options: nosniff",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}")
        if not keep_alive:
            lines.append("Connection: close")
        self._head = "\r\n".join([*lines, "Date: "]).encode()

    def whole(self, *, without_body: bool = False) -> bytes:
        """What is to be written now; a HEAD request is answered without a body."""
        return b"".join((self._head, _date(int(time.time())), b"\r\n\r\n", b"" if without_body else self._body))


@lru_cache(maxsize=1)
def _date(now: int) -> bytes:
    return formatdate(now, usegmt=True).encode()


TAKEN = {
    (form, keep_alive): Answer(200, {"Content-Type": CONTENT_TYPES[form]}, body, keep_alive=keep_alive)
    for form, body in _EMPTY_ANSWERS.items()
    for keep_alive in (True, False)
}


def error(
    form: Form,
    status: int,
    message: str,
    *,
    keep_alive: bool,
    code: int | None = None,
    retry_after_seconds: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A google.rpc.Status."""
    encode = encode_status if form == "protobuf" else encode_status_json
    body = encode(CODE_OF_STATUS.get(status, UNKNOWN) if code is None else code, message, retry_after_seconds)
    all_headers = {"Content-Type": CONTENT_TYPES[form], **(headers or {})}
    if retry_after_seconds is not None:
        all_headers["Retry-After"] = str(whole_seconds(retry_after_seconds))
    return Answer(status, all_headers, body, keep_alive=keep_alive)


def refused(form: Form, why: Refused, *, keep_alive: bool) -> Answer:
    """A request that is not taken."""
    return error(
        form,
        why.kind.http_status,
        why.message,
        keep_alive=keep_alive,
        code=why.kind.grpc_code,
        retry_after_seconds=why.retry_after_seconds,
        headers={"Allow": "POST"} if why.kind is WRONG_METHOD else None,
    )


def not_let_in(form: Form, why: Refusal, *, keep_alive: bool) -> Answer:
    """A request of somebody who may not send."""
    return error(form, why.status, why.error, keep_alive=keep_alive, headers=why.headers)


def fault(form: Form, status: int = 500) -> Answer:
    """A fault of ours ends the connection."""
    return error(form, status, "the agent failed to answer; its log says why", keep_alive=False)
