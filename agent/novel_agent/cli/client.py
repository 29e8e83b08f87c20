"""Asking a running agent, from the command line."""

import argparse
import contextlib
import json
import os
import re
import ssl
from http.client import BadStatusLine, HTTPException
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import msgspec

from novel_agent.cli.options import sources_of
from novel_agent.config.masking import mask_address
from novel_agent.errors import AgentError, AgentUnreachable, ConfigError

_DEADLINE_SECONDS = 10.0
_NOT_IN_URLS = re.compile(r"[^!-~]")
_NOT_IN_TOKENS = re.compile(rb"[\x00-\x1f\x7f]")

Kind = TypeVar("Kind")


class Refused(AgentError):  # noqa: N818 - what the agent did
    """The agent answered with an error."""


class Agent(NamedTuple):
    """Where an agent is asked: base URL without a slash at its end, token as sent ('' for none), whom TLS trusts."""

    url: str
    token: str
    tls: ssl.SSLContext | None


def ask(args: argparse.Namespace, path: str, kind: type[Kind]) -> tuple[Any, Kind]:
    """What the agent answers at `path`, as sent and as `kind`; AgentUnreachable, exit 3, where no agent does."""
    agent = addressed(args)
    try:
        answer = _get(agent, path)
        return answer, msgspec.convert(answer, kind)
    except HTTPError as error:
        with error:
            raise _refusal(agent.url, error) from None
    except msgspec.ValidationError as error:
        raise _not_an_agent(agent.url, str(error)) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise AgentUnreachable(
            f"no agent answers at {agent.url} ({reason}); is it running? Another address: --url{_hint(reason)}"
        ) from None
    except BadStatusLine:
        raise _not_an_agent(agent.url, "it does not speak HTTP") from None
    except (HTTPException, ValueError) as error:
        raise _not_an_agent(agent.url, str(error)) from None


def _get(agent: Agent, path: str) -> Any:
    request = Request(f"{agent.url}{path}", headers={"Accept": "application/json"})  # noqa: S310 - the operator's own URL
    if agent.token:
        request.add_unredirected_header("Authorization", f"Bearer {agent.token}")
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=agent.tls))
    with opener.open(request, timeout=_DEADLINE_SECONDS) as answer:
        return json.load(answer)


def _refusal(url: str, error: HTTPError) -> AgentError:
    try:
        said = json.load(error)["error"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        said = None
    if not isinstance(said, str):
        return _not_an_agent(url, f"{error.code} {error.reason}")
    if error.code == 401:
        return Refused(f"the agent wants a token ({said}): --token-file, or OBSERVABILITY_TOKEN")
    return Refused(f"the agent answers {error.code}: {said}")


def _not_an_agent(url: str, why: str) -> AgentUnreachable:
    return AgentUnreachable(
        f"what answers at {url} is not an agent, or not one of this version ({why}); another address: --url"
    )


def _hint(reason: object) -> str:
    return "; whom to trust: --ca-file" if isinstance(reason, ssl.SSLCertVerificationError) else ""


def addressed(args: argparse.Namespace) -> Agent:
    """The agent that the options, the environment or else the configuration mean."""
    ca_file = args.ca_file or os.environ.get("NOVEL_AGENT_CA_FILE") or None
    for origin, url in (("--url", args.url), ("environment NOVEL_AGENT_URL", os.environ.get("NOVEL_AGENT_URL"))):
        if url:
            base = _base_url(url, origin)
            return Agent(base, _token(args, None), _trusting(ca_file) if base.startswith("https:") else None)
    return _configured(args, ca_file)


def _configured(args: argparse.Namespace, ca_file: str | None) -> Agent:
    from novel_agent.config.load import load

    agent = load(sources_of(args)).config.agent
    host, _, port = agent.listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - read, not bound
    token = _token(args, agent.auth.token_file or os.path.join(agent.state_dir or "", "api-token"))
    if agent.tls is None:
        return Agent(f"http://{host}:{port}", token, None)
    context = _trusting(ca_file or agent.tls.cert_file)
    context.check_hostname = False  # this machine's own listener, and its certificate names the machine, not loopback
    return Agent(f"https://{host}:{port}", token, context)


def _base_url(text: str, origin: str) -> str:
    url = text if "://" in text else f"http://{text}"
    shown = mask_address(text)
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError as error:
        raise ConfigError(origin, 0, "", f"{shown!r} is not a URL: {error}") from None
    superfluous = parts.username is not None or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not host or superfluous or _NOT_IN_URLS.search(url):
        raise ConfigError(origin, 0, "", f"{shown!r} is not of the form http://HOST:PORT or https://HOST:PORT")
    return url.rstrip("/")


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    """TLS that trusts the certificates in a file, whether or not they are authorities; None is the system's."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ConfigError(str(ca_file), 0, "", "holds no certificate in PEM form") from None
    except OSError as error:
        raise ConfigError(str(ca_file), 0, "", f"cannot be read: {error.strerror}") from None
    if ca_file is not None:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _token(args: argparse.Namespace, configured: str | None) -> str:
    """The token as a header wants it: any bytes, one Latin-1 character each."""
    if args.token_file:
        return _sendable(_read_token(args.token_file), args.token_file)
    if token := os.environ.get("OBSERVABILITY_TOKEN"):
        return _sendable(os.fsencode(token), "environment OBSERVABILITY_TOKEN")
    if path := os.environ.get("OBSERVABILITY_TOKEN_FILE"):
        return _sendable(_read_token(path), path)
    with contextlib.suppress(ConfigError):  # it may be another user's, and over loopback none is wanted
        if configured:
            return _sendable(_read_token(configured), configured)
    return ""


def _read_token(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(path, 0, "", f"cannot be read: {error.strerror}") from None


def _sendable(token: bytes, origin: str) -> str:
    token = token.strip()
    if _NOT_IN_TOKENS.search(token):
        raise ConfigError(origin, 0, "", "holds more than one line, or control characters, where a token should be")
    return token.decode("latin-1")
