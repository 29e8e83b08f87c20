"""The template of the route that took a request, with the prefixes of included routers and mounts.

Where it is said differs between versions of FastAPI and Starlette; all of it is read from the ASGI scope after the
request, which costs two or three look-ups, and only what is not there is found by matching the path again:

    a FastAPI route         scope["route"].path, in older FastAPI with the prefixes of the routers that include it; in
                            current FastAPI without, and scope["fastapi"]["effective_route_context"].path has them
    a mounted application   each mount has appended what it matched to scope["root_path"]; its template is found by
                            matching that
    a plain Starlette route scope["route"] in new Starlette, else nothing but scope["endpoint"]
"""

from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

UNMATCHED = "unmatched"

_REMEMBERED_MAX = 1000


class Templates:
    """Finds templates among an application's routes, which are read anew whenever something is looked for."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._mounts: dict[str, str] = {}
        self._endpoints: dict[tuple[object, str], str] = {}

    def of(self, scope: MutableMapping[str, Any], path: str, root_path: str, status: int) -> str:
        """The template of what the scope says took the request; `path` and `root_path` are those it came with."""
        route = scope.get("route")
        root_now = scope.get("root_path", "")
        if route is None or hasattr(route, "routes"):
            return self._without_route(scope, path, root_path, root_now, status)
        context = scope["fastapi"].get("effective_route_context") if "fastapi" in scope else None
        template = str(context.path if context is not None and context.original_route is route else route.path)
        return template if root_now == root_path else self._mount(root_now.removeprefix(root_path)) + template

    def owner_of(self, path: str) -> Any:
        """The route or mount whose template is exactly this path, or None."""
        return next((route for template, route in _every(self._routes(), "") if template == path), None)

    def _routes(self) -> Iterable[Any]:
        return getattr(self._application, "routes", ()) or ()

    def _without_route(
        self, scope: MutableMapping[str, Any], path: str, root_path: str, root_now: str, status: int
    ) -> str:
        endpoint = scope.get("endpoint")
        if endpoint is None and status == 404:
            return UNMATCHED
        known = self._endpoints.get((endpoint, root_now)) if endpoint is not None else None
        if known is not None:
            return known
        method = scope.get("method")
        within = path[len(root_path) :] if root_path and path.startswith(root_path) else path
        template = _matching(self._routes(), within or "/", method, scope)
        if template is None:
            return UNMATCHED
        if endpoint is not None and self._is_the_only_one(endpoint) and len(self._endpoints) < _REMEMBERED_MAX:
            self._endpoints[endpoint, root_now] = template
        return template

    def _is_the_only_one(self, endpoint: object) -> bool:
        return sum(getattr(route, "endpoint", None) is endpoint for _, route in _every(self._routes(), "")) == 1

    def _mount(self, matched: str) -> str:
        known = self._mounts.get(matched)
        if known is None:
            known = _mount_template(self._routes(), matched) or "/{mount}"
            if len(self._mounts) >= _REMEMBERED_MAX:
                self._mounts.clear()
            self._mounts[matched] = known
        return known


def _candidates(routes: Iterable[Any]) -> Iterator[Any]:
    """The routes with their prefixes: current FastAPI keeps an included router as one route."""
    for route in routes:
        if hasattr(route, "effective_route_contexts"):
            for context in route.effective_route_contexts():
                yield context.starlette_route or context
        else:
            yield route


def _is_mount(route: Any) -> bool:
    return hasattr(route, "routes") and hasattr(route, "path_regex")


def _every(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for route in _candidates(routes):
        path = getattr(route, "path", None)
        if path is None:
            yield from _every(getattr(route, "routes", ()) or (), prefix)
            continue
        yield prefix + path, route
        if _is_mount(route):
            yield from _every(route.routes or (), prefix + path)


def _matching(routes: Iterable[Any], path: str, method: str | None, scope: MutableMapping[str, Any]) -> str | None:
    """As the router matches: the first whose path and method fit, else the first whose path fits."""
    partial = None
    for route in _candidates(routes):
        regex = getattr(route, "path_regex", None)
        if regex is None:
            found = _matching(getattr(route, "routes", ()) or (), path, method, scope)
            if found is not None:
                return found
            continue
        match = regex.match(path)
        if match is None:
            continue
        if _is_mount(route):
            inner = route.routes
            if not inner:
                return f"{route.path}/{{path}}"
            found = _matching(inner, "/" + match["path"], method, scope)
            return None if found is None else route.path + found
        methods = getattr(route, "methods", None)
        if not methods or method in methods:
            return str(route.path)
        partial = partial or str(route.path)
    return partial


def _mount_template(routes: Iterable[Any], matched: str) -> str | None:
    """The templates of the mounts that matched this much of a path, one within the other."""
    for route in _candidates(routes):
        if not hasattr(route, "path_regex"):
            found = _mount_template(getattr(route, "routes", ()) or (), matched)
            if found is not None:
                return found
        elif _is_mount(route):
            match = route.path_regex.match(matched + "/")
            if match is None:
                continue
            rest = match["path"]
            if not rest:
                return str(route.path)
            return str(route.path) + (_mount_template(route.routes or (), "/" + rest[:-1]) or "/{mount}")
    return None
