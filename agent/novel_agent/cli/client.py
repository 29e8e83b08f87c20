"""Asking a running agent, from the command line."""

import argparse
import json
import os
import ssl
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from novel_agent.cli.options import sources_of
from novel_agent.errors import AgentError, AgentUnreachable

_DEADLINE_SECONDS = 10.0


class Refused(AgentError):  # noqa: N818 - what the agent did
    """The agent answered with an error."""


def ask(args: argparse.Namespace, path: str) -> Any:
    """The JSON the agent answers at `path`; AgentUnreachable, exit 3, where none does."""
    base, token = address_and_token(args)
    request = Request(f"{base}{path}", headers={"Accept": "application/json"})  # noqa: S310 - the operator's own URL
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=_DEADLINE_SECONDS) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise Refused(_message(error)) from None
    except (URLError, OSError, ssl.SSLError, json.JSONDecodeError) as error:
        reason = getattr(error, "reason", error)
        raise AgentUnreachable(
            f"no agent answers at {base} ({reason}); is it running? Another address: --url"
        ) from None


def _message(error: HTTPError) -> str:
    try:
        said = json.load(error)["error"]
    except (ValueError, KeyError, TypeError):
        said = error.reason
    if error.code == 401:
        return f"the agent wants a token ({said}): --token-file, or OBSERVABILITY_TOKEN"
    return f"the agent answers {error.code}: {said}"


def address_and_token(args: argparse.Namespace) -> tuple[str, str]:
    """The base URL to ask, without a slash at its end, and the token to show ('' for none)."""
    token = os.environ.get("OBSERVABILITY_TOKEN", "")
    token_file = args.token_file or os.environ.get("OBSERVABILITY_TOKEN_FILE")
    url = args.url or os.environ.get("NOVEL_AGENT_URL")
    if not url:
        from novel_agent.config.load import load

        agent = load(sources_of(args)).config.agent
        host, _, port = agent.listen.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - read, not bound
        url = f"{'https' if agent.tls else 'http'}://{host}:{port}"
        token_file = token_file or agent.auth.token_file or os.path.join(agent.state_dir or "", "api-token")
    if token_file and not token:
        try:
            with open(token_file, encoding="ascii") as file:
                token = file.read().strip()
        except OSError:
            token = ""
    return url.rstrip("/"), token
