"""What goes into loading and what comes out; light enough for the daemon to import."""

import msgspec

from novel_agent.config.schema import Config

DEFAULT_CONFIG = "/etc/novel-engine-agent/agent.yaml"
DEFAULT_CONF_DIR = "/etc/novel-engine-agent/conf.d"


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Where a configuration comes from.

    A path that is None stands for the default place, which need not exist; one that is given must; "" reads nothing.
    """

    config: str | None = None
    conf_dir: str | None = None
    listen: str | None = None
    state_dir: str | None = None
    log_level: str | None = None
    environ: dict[str, str] = {}


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A valid configuration.

    `origins` has where each value came from, by key path: `FILE:LINE`, `environment NAME`, `command line --OPTION` or
    `default`. `notices` are what the operator should know though nothing is wrong. `files` were read, in order.
    """

    config: Config
    origins: dict[str, str]
    notices: list[str]
    files: list[str]
