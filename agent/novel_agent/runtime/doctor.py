"""Examining a host the way the agent would meet it: every finding names what, what is so, and the exact fix."""

import asyncio
import contextlib
import errno
import os
import resource
import shlex
import socket
import stat
from collections.abc import Iterator

from novel_agent import registry
from novel_agent.config.masking import mask_url
from novel_agent.config.schema import Config, Export
from novel_agent.errors import AgentError, OutputRejected, OutputUnavailable, StateError
from novel_agent.model.batch import Batch
from novel_agent.runtime.build import make_isolation, make_sampler
from novel_agent.runtime.disk import spool_name
from novel_agent.runtime.doctor_logs import examine_logs
from novel_agent.runtime.finding import Finding
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.runtime.supervise import Component
from novel_agent.state.directory import distrust, holder
from novel_agent.state.spool_report import destinations, waiting_bytes

_FEWEST_DESCRIPTORS = 4096
_DROP_IN = "systemctl edit novel-engine-agent, and under [Service]:"


async def examine(config: Config) -> list[Finding]:
    """Look at everything; takes as long as the slowest destination's timeout."""
    findings = [_state(config), *_spools(config), *_addresses(config), *_kernel(config), *_limits()]
    findings += await _inputs(config)
    findings += examine_logs(config)
    findings += await asyncio.gather(*(_destination(export) for export in config.export))
    return findings


def _state(config: Config) -> Finding:
    """Looks without touching: what doctor made would be its user's, and often that is root."""
    path = config.agent.state_dir
    assert path is not None
    try:
        status = os.stat(path)
        if not stat.S_ISDIR(status.st_mode):
            return _bad_state(path, f"{path} is not a directory")
        if not _may(path, os.R_OK | os.W_OK | os.X_OK):
            return _bad_state(path, f"{path} is not this user's to write")
        found = distrust(path, status, os.geteuid() or status.st_uid)  # root looks at what a service runs with
        if found is not None and found.is_refused:
            return Finding("state directory", "problem", f"{path} {found.says}", found.fix)
        lock = os.path.join(path, "lock")
        if os.path.exists(lock) and not _may(lock, os.R_OK | os.W_OK):
            return _bad_state(path, f"{lock} is not this user's to write", lock)
        process = holder(path)
    except FileNotFoundError:
        return _state_to_be_made(path)
    except OSError as error:
        return _bad_state(path, f"{path}: {error.strerror}")
    if process is not None:
        return Finding("state directory", "note", f"{path} is in use by process {process}")
    free = os.statvfs(path)
    return Finding("state directory", "ok", f"{path} is writable, {free.f_bavail * free.f_frsize >> 20} MiB free")


def _state_to_be_made(path: str) -> Finding:
    parent = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if os.path.isdir(parent) and _may(parent, os.W_OK | os.X_OK):
        return Finding("state directory", "ok", f"{path} is not there yet and can be made")
    return _bad_state(path, f"{path} is not there, and this user may make nothing in {parent}")


def _bad_state(path: str, says: str, changed: str | None = None) -> Finding:
    make = f"chown {os.geteuid()} {changed}" if changed else f"mkdir -p {path} && chown {os.geteuid()} {path}"
    fix = f"as root: {make}; or agent.state_dir elsewhere"
    return Finding("state directory", "problem", says, fix)


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)


def _spools(config: Config) -> Iterator[Finding]:
    """The spools that are there: whether they can be written, whether there is room, and those that nobody empties."""
    state_directory = config.agent.state_dir
    assert state_directory is not None
    try:
        there_are = destinations(state_directory)
        configured = {spool_name(export) for export in config.export}
        for name, directory in there_are.items():
            if name not in configured:
                yield from _left_over(name, directory)
            elif not _may(directory, os.R_OK | os.W_OK | os.X_OK):
                fix = f"as root: chown -R {os.geteuid()} {directory}"
                yield Finding(f"spool {name}", "problem", f"{directory} is not this user's to write", fix)
        used_bytes = sum(map(_size_bytes, there_are.values()))
        free = os.statvfs(state_directory)
    except FileNotFoundError:
        return
    except (OSError, StateError) as error:
        says = str(error) if isinstance(error, StateError) else f"{state_directory}: {error.strerror}"
        yield Finding("spools", "problem", says, "run this as the agent's user or as root")
        return
    yield _room(config, used_bytes, free.f_bavail * free.f_frsize)


def _room(config: Config, used_bytes: int, free_bytes: int) -> Finding:
    allowed_bytes = sum(export.spool.size_bytes for export in config.export)
    short_bytes = allowed_bytes - used_bytes - free_bytes
    says = f"{_mib(used_bytes)} are used, {_mib(allowed_bytes)} may be"
    if short_bytes <= 0:
        return Finding("spools", "ok", says)
    fix = "make room, or export.NAME.spool.size smaller, or agent.state_dir on a larger disk"
    return Finding("spools", "note", f"{says}, which is {_mib(short_bytes)} more than the disk has room for", fix)


def _left_over(name: str, directory: str) -> Iterator[Finding]:
    size_bytes = waiting_bytes(directory)
    if size_bytes:
        destination = name.removesuffix("@remote_write")
        says = (
            f"{_mib(size_bytes)} wait for a destination that is not configured any more; nothing sends or removes them"
        )
        keep = ["novel-agent", "queue", "export", name, "--output", "FILE"]
        if destination != name:
            keep += ["--format", "protobuf"]  # remote write has no JSON
        remove = f"rm -r {shlex.quote(directory)}"
        fix = f"configure `{destination}` again to have them sent, or {shlex.join(keep)} to keep them, then {remove}"
        yield Finding(f"spool {name}", "note", says, fix)


def _size_bytes(directory: str) -> int:
    """Of the files in it; what the agent removes meanwhile is none."""
    size_bytes = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                size_bytes += os.lstat(os.path.join(parent, name)).st_size
    return size_bytes


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB" if size_bytes < 100 << 20 else f"{size_bytes >> 20} MiB"


def _addresses(config: Config) -> Iterator[Finding]:
    wanted = {
        "listen": ("agent.listen", config.agent.listen),
        "OTLP over HTTP": ("otlp_receiver.http", config.otlp_receiver.http),
        "OTLP over gRPC": ("otlp_receiver.grpc", config.otlp_receiver.grpc),
    }
    for what, (option, address) in wanted.items():
        if address is not None:
            yield _address(what, option, address)


def _address(what: str, option: str, address: str) -> Finding:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host.strip("[]"), int(port)))
            server.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                fix = f"if that is not the agent: ss -ltnp 'sport = :{port}', or {option} with another port"
                return Finding(what, "note", f"{address} is in use", fix)
            return Finding(what, "problem", f"{address}: {error.strerror}", f"{option} elsewhere")
    return Finding(what, "ok", f"{address} is free")


def _kernel(config: Config) -> Iterator[Finding]:
    proc, sys = config.host.paths.proc, config.host.paths.sys
    if not os.path.exists(f"{proc}/stat"):
        yield Finding("kernel", "problem", f"{proc} is not a proc file system", "host.paths.proc: where it is mounted")
        return
    if os.path.exists(f"{proc}/pressure/cpu"):
        yield Finding("pressure", "ok", "the kernel counts stalls (PSI)")
    else:
        yield Finding("pressure", "note", "the kernel does not count stalls (PSI)", "boot with psi=1")
    unified = os.path.exists(f"{sys}/fs/cgroup/cgroup.controllers")
    yield Finding("control groups", "ok" if unified else "note", "version 2" if unified else "version 1 or hybrid")
    yield _other_processes(proc)


def _other_processes(proc: str) -> Finding:
    what = "other users' processes"
    if os.geteuid() == 0:
        return Finding(what, "ok", "visible: this is root")
    if not os.path.exists(f"{proc}/1/stat"):
        fix = "mount -o remount,hidepid=0 /proc, or add the agent's user to the group of its gid= option"
        return Finding(what, "problem", f"hidden: {proc} is mounted with hidepid", fix)
    if _has_ptrace(proc):
        return Finding(what, "ok", "visible with their I/O, descriptors and PSS (CAP_SYS_PTRACE)")
    fix = f"{_DROP_IN} AmbientCapabilities=CAP_SYS_PTRACE and CapabilityBoundingSet=CAP_SYS_PTRACE"
    return Finding(what, "note", "visible without their I/O, descriptors and PSS", fix)


def _has_ptrace(proc: str) -> bool:
    with open(f"{proc}/self/status", encoding="ascii", errors="replace") as file:
        effective = next((line.split()[1] for line in file if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> 19 & 1)


def _limits() -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FEWEST_DESCRIPTORS:
        fix = f"{_DROP_IN} LimitNOFILE=65536, or ulimit -Hn 65536"
        yield Finding("descriptors", "note", f"at most {hard} may be open; handles of processes stay open", fix)
    else:
        yield Finding("descriptors", "ok", "unlimited" if hard == resource.RLIM_INFINITY else f"up to {hard}")


async def _inputs(config: Config) -> list[Finding]:
    left_behind = LeftBehind()
    isolate = make_isolation(config, left_behind)
    sampler = make_sampler(config, left_behind, isolate)
    try:
        await sampler.sample()
        components = [watched.component for watched in sampler.watched]
        missing = [line for each in sampler.watched for line in getattr(each.collector, "missing", ())]
    finally:
        await sampler.close()
        isolate.close()
    up = sum(component.state == "up" for component in components)
    absent = sum(component.state == "no data" for component in components)
    findings = [Finding("inputs", "ok", f"{up} give data, {absent} find nothing of their subject on this host")]
    for component in components:
        if component.state in {"failing", "hung"}:
            findings.append(
                Finding(f"input {component.name}", "problem", component.reason, _way_to_do_without(component))
            )
    return [*findings, *(Finding("input process", "note", line) for line in missing)]


def _way_to_do_without(component: Component) -> str:
    if component.kind == "input":  # the groups of processes, which have a section of their own
        return "remove the section `processes`, if it is not wanted"
    return f"host.collectors.{component.name}: off, if it is not wanted"


async def _destination(export: Export) -> Finding:
    what = f"export {export.name}"
    output = registry.load(registry.OUTPUTS[export.type])(export)
    try:
        await output.start()
        async with asyncio.timeout(export.timeout_seconds + 1):
            await output.send(Batch(export.signals[0], b"", 0))
    except OutputUnavailable as error:
        return Finding(what, "problem", _said(export, str(error)), "start it, or correct `endpoint`")
    except OutputRejected as error:
        fix = "correct `endpoint`, `protocol`, `headers` or `tls`: it answers, but refuses what is sent"
        return Finding(what, "problem", _said(export, str(error)), fix)
    except (AgentError, OSError) as error:
        return Finding(what, "problem", _said(export, str(error) or "no answer in time"), "correct `endpoint`")
    finally:
        await output.stop()
    return Finding(what, "ok", f"{_where(export)} takes {export.protocol if export.type == 'otlp' else export.type}")


def _said(export: Export, error: str) -> str:
    """What a destination said, after its address; most errors begin with that by themselves."""
    return error if error.startswith(("http://", "https://")) else f"{_where(export)}: {error}"


def _where(export: Export) -> str:
    return mask_url(export.url) if export.url else export.where
