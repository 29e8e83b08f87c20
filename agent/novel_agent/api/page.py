"""`GET /`: the page for people, and its files. They hold no data, so everybody may have them; the page asks for the rest."""

import os
import zlib
from functools import partial

from novel_agent.serving.aiohttp_web import web
from novel_agent.serving.route import BASE_HEADERS, Answer, Route

_DIRECTORY = os.path.join(os.path.dirname(__file__), "web")
FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = BASE_HEADERS | {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
}


def routes() -> list[Route]:
    """The page and its files."""
    return [
        Route(
            "GET",
            path,
            partial(_get, name, media_type),
            f"The page for people: {name}",
            {200: Answer("The file", {media_type: None}), 304: Answer("The file has not changed")},
            is_open=True,
        )
        for path, (name, media_type) in FILES.items()
    ]


async def _get(name: str, media_type: str, request: web.Request) -> web.StreamResponse:
    with open(os.path.join(_DIRECTORY, name), "rb") as file:  # noqa: ASYNC230 - a few KiB of the installed package
        body = file.read()
    tag = f'"{zlib.crc32(body):08x}"'
    headers = _HEADERS | {"ETag": tag}
    if tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers | {"Content-Type": f"{media_type}; charset=utf-8"})
