"""The token that the agent keeps in its state directory, for requests that do not come over loopback."""

import os

from novel_agent.logs import get_logger
from novel_agent.serving.access import TokenFile, TokenInMemory
from novel_agent.state.directory import StateDirectory, TokenNotKept

log = get_logger("api")


def kept_token(state: StateDirectory) -> TokenFile | TokenInMemory:
    """Made at the first start; on a full disk one that nobody knows, so that only loopback is answered."""
    path = os.path.join(state.path, "api-token")
    try:
        _, made = state.token()
    except TokenNotKept as error:
        log.error("no token kept, requests that do not come over loopback are refused", reason=error)
        return TokenInMemory(error.token)
    if made:
        log.info("token made, for requests that do not come over loopback", path=path)
    return TokenFile(path)
