"""Loading in a child process: one request on its standard input, one answer on its standard output, both JSON.

PyYAML and the schema's reflection cost memory that the daemon would keep for ever. Secrets go through the pipes only. This
side imports neither.
"""

import msgspec

from novel_agent.config.model import Loaded, Sources
from novel_agent.errors import ConfigError, ConfigErrors


class Mistake(msgspec.Struct, array_like=True):
    """A `ConfigError` on its way through the pipe."""

    file: str
    line: int
    key: str
    problem: str


class Answer(msgspec.Struct, omit_defaults=True):
    """Either the loaded configuration or what is wrong with it."""

    loaded: Loaded | None = None
    mistakes: list[Mistake] = []


def request_bytes(sources: Sources) -> bytes:
    """What the child reads. Bytes that are no UTF-8, as an environment may hold, become `?`."""
    try:
        return msgspec.json.encode(sources)
    except UnicodeEncodeError:
        return msgspec.json.encode(msgspec.convert(_cleaned(msgspec.to_builtins(sources)), Sources))


def _cleaned(value: object) -> object:
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(each) for key, each in value.items()}
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def answer_bytes(request: bytes) -> bytes:
    """The child's whole work."""
    from novel_agent.config.load import load

    try:
        answer = Answer(loaded=load(msgspec.json.decode(request, type=Sources)))
    except ConfigErrors as errors:
        answer = Answer(mistakes=[Mistake(*error.args) for error in errors.errors])
    return msgspec.json.encode(answer)


def decode_answer(data: bytes) -> Loaded:
    """What the child loaded; ConfigErrors where the configuration is wrong or the answer is none."""
    try:
        answer = msgspec.json.decode(data, type=Answer)
    except msgspec.DecodeError as error:
        raise ConfigErrors([ConfigError("configuration", 0, "", f"could not be loaded: {error}")]) from None
    if answer.mistakes:
        raise ConfigErrors([ConfigError(*msgspec.structs.astuple(mistake)) for mistake in answer.mistakes])
    if answer.loaded is None:
        raise ConfigErrors([ConfigError("configuration", 0, "", "could not be loaded: the answer is empty")])
    return answer.loaded
