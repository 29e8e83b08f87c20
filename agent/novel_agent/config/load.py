"""Loads a configuration: read, check each file, merge, check the whole, and report every mistake at once.

Order of precedence: command line, environment, drop-ins in lexical order (the last first), --config, defaults.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from novel_agent import registry
from novel_agent.config.collectors import registered_options
from novel_agent.config.convert import Collectors, Conversion, OptionsOf
from novel_agent.config.earlier_server import from_earlier_server, is_earlier_server
from novel_agent.config.environment import from_environment, level
from novel_agent.config.files import SourceFile, read_sources
from novel_agent.config.merge import merge
from novel_agent.config.model import Loaded, Sources
from novel_agent.config.outline import named_lists, struct_info
from novel_agent.config.schema import OWN_RECEIVER, Config, Match, ProcessGroup
from novel_agent.config.substitute import substitute
from novel_agent.config.tree import Branch, Items, Origin, Setting, given, nested
from novel_agent.config.yaml_reader import read_yaml
from novel_agent.errors import ConfigError, ConfigErrors


def load(
    sources: Sources,
    *,
    collector_names: Collection[str] = registry.HOST_COLLECTORS,
    collector_options: OptionsOf = registered_options,
) -> Loaded:
    """A valid configuration, or ConfigErrors with every mistake found, in file order."""
    errors: list[ConfigError] = []
    notices: list[str] = []
    collectors = Collectors(collector_names, collector_options)
    files = read_sources(sources, errors, notices)
    trees = [tree for file in files for tree in _file_trees(file, sources.environ, collectors, errors, notices)]
    trees += from_environment(sources.environ, errors, notices)
    trees += _from_command_line(sources, errors)
    check, values = _checked(trees, collectors)
    back = {error.file for error in check.errors if _is_of_environment(error) and OWN_RECEIVER in error.problem}
    if back:  # an application's variable that says where its own agent is
        notices += [f"{source} is this agent's own receiver and makes no destination" for source in sorted(back)]
        check, values = _checked([tree for tree in trees if not _sends_to(tree, back)], collectors)
    errors.extend(check.errors)
    notices.extend(check.notices)
    if errors:
        raise ConfigErrors(_in_file_order(errors, [file.path for file in files]))
    config = _finished(values, sources, check.origins, notices)
    return Loaded(config=config, origins=check.origins, notices=notices, files=[file.path for file in files])


def _checked(trees: Iterable[Branch], collectors: Collectors) -> tuple[Conversion, Any]:
    check = Conversion(collectors, whole=True)
    return check, check.section(Config, merge(trees, list(named_lists(struct_info(Config)))))


def _is_of_environment(error: ConfigError) -> bool:
    return error.file.startswith("environment ")


def _sends_to(tree: Branch, sources: Collection[str]) -> bool:
    """Whether a tree is an export whose endpoint one of these sources gave."""
    export = tree.entries.get("export")
    if export is None or not isinstance(export.node, Items):
        return False
    items = [node.entries for node in export.node.nodes if isinstance(node, Branch)]
    return any("endpoint" in item and item["endpoint"].origin.source in sources for item in items)


def _file_trees(
    file: SourceFile,
    environ: Mapping[str, str],
    collectors: Collectors,
    errors: list[ConfigError],
    notices: list[str],
) -> list[Branch]:
    """One file as trees to merge. It is checked by itself too, or a later file would hide its mistakes."""
    node = read_yaml(file.data, file.path, errors)
    if node is None or (not isinstance(node, Branch) and getattr(node, "is_null", False)):
        return []
    if not isinstance(node, Branch):
        errors.append(node.origin.error("", "a configuration is a mapping of sections, such as agent: and host:"))
        return []
    if file.is_main and is_earlier_server(node):
        return from_earlier_server(node, errors, notices)
    tree = substitute(node, environ, errors)
    assert isinstance(tree, Branch)
    check = Conversion(collectors, whole=False)
    check.section(Config, tree)
    errors.extend(check.errors)
    return [tree]


def _from_command_line(sources: Sources, errors: list[ConfigError]) -> list[Branch]:
    trees = []
    if sources.listen is not None:
        trees.append(nested("agent.listen", given(Origin("command line --listen"), sources.listen)))
    if sources.state_dir is not None:
        trees.append(nested("agent.state_dir", given(Origin("command line --state-dir"), sources.state_dir)))
    if sources.log_level is not None:
        trees += level(Setting(Origin("command line --log-level"), sources.log_level), errors)
    return trees


def _in_file_order(errors: Iterable[ConfigError], files: list[str]) -> list[ConfigError]:
    """Each mistake once; the checks of a file and of the whole find the same ones."""
    places = {path: index for index, path in enumerate(files)}
    distinct = {error.args: error for error in errors}.values()
    return sorted(distinct, key=lambda error: (places.get(error.file, len(places)), error.line))


def _finished(values: dict[str, Any], sources: Sources, origins: dict[str, str], notices: list[str]) -> Config:
    agent = values.setdefault("agent", {})
    if agent.get("state_dir") is None:
        agent["state_dir"], origins["agent.state_dir"] = default_state_dir(sources.environ)
    config = msgspec.convert(values, Config)
    groups = _catch_all_last(config.processes, notices)
    for export in config.export:
        if export.protocol != "grpc" and export.url.rstrip("/").endswith(":4317"):
            notices.append(
                f"export[{export.name}]: port 4317 is gRPC's by convention, but protocol is {export.protocol}"
            )
    return msgspec.structs.replace(config, processes=groups)


def _catch_all_last(groups: tuple[ProcessGroup, ...], notices: list[str]) -> tuple[ProcessGroup, ...]:
    """Groups without a criterion after all others, so that a drop-in's own group is not starved by a shipped one."""
    rest = [group for group in groups if group.match == Match()]
    notices.extend(
        f"processes[{group.name}] gets nothing: processes[{rest[0].name}] takes every process left over before it"
        for group in rest[1:]
    )
    return (*(group for group in groups if group.match != Match()), *rest)


def default_state_dir(environ: Mapping[str, str]) -> tuple[str, str]:
    """Where state is kept when nothing says otherwise, and where that comes from."""
    if environ.get("STATE_DIRECTORY"):
        return environ["STATE_DIRECTORY"].split(":")[0], "environment STATE_DIRECTORY"
    if os.geteuid() == 0:
        return "/var/lib/novel-engine-agent", "default"
    if os.path.isabs(environ.get("XDG_STATE_HOME", "")):
        return os.path.join(environ["XDG_STATE_HOME"], "novel-engine-agent"), "environment XDG_STATE_HOME"
    home = environ.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        problem = "this user has no home directory to keep it in; name a directory with --state-dir"
        raise ConfigErrors([ConfigError("default", 0, "agent.state_dir", problem)])
    return os.path.join(home, ".local/state/novel-engine-agent"), "default"
