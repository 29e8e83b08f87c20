"""Examining a host the way the agent would meet it: every finding names what, what is so, and the exact fix."""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator
from typing import Literal

import msgspec

from novel_agent import registry
from novel_agent.config.schema import Config, Export
from novel_agent.errors import AgentError, OutputRejected, OutputUnavailable, StateError
from novel_agent.model.batch import Batch
from novel_agent.runtime.build import make_sampler
from novel_agent.runtime.lanes import LeftBehind
from novel_agent.state.directory import StateDirectory

_FEWEST_DESCRIPTORS = 4096
_DROP_IN = "systemctl edit novel-engine-agent, and under [Service]:"


class Finding(msgspec.Struct):
    """One thing looked at. `fix` is what to type or change; '' where nothing needs to."""

    what: str
    verdict: Literal["ok", "note", "problem"]
    says: str
    fix: str = ""


async def examine(config: Config) -> list[Finding]:
    """Look at everything; takes as long as the slowest destination's timeout."""
    findings = [*_state(config), *_listen(config), *_kernel(config), *_limits()]
    findings += await _inputs(config)
    findings += await asyncio.gather(*(_destination(export) for export in config.export))
    return findings


def _state(config: Config) -> Iterator[Finding]:
    assert config.agent.state_dir is not None
    state = StateDirectory(config.agent.state_dir)
    try:
        state.open()
    except StateError as error:
        if "in use by" in str(error):
            yield Finding("state directory", "note", str(error))
        else:
            yield Finding(
                "state directory",
                "problem",
                str(error),
                f"mkdir -p {state.path} && chown $USER {state.path}, or agent.state_dir elsewhere",
            )
        return
    state.close()
    free = os.statvfs(state.path)
    yield Finding("state directory", "ok", f"{state.path} is writable, {free.f_bavail * free.f_frsize >> 20} MiB free")


def _listen(config: Config) -> Iterator[Finding]:
    host, _, port = config.agent.listen.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host.strip("[]"), int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                fix = f"if that is not the agent: ss -ltnp 'sport = :{port}', or agent.listen with another port"
                yield Finding("listen", "note", f"{config.agent.listen} is in use", fix)
            else:
                yield Finding("listen", "problem", f"{config.agent.listen}: {error.strerror}", "agent.listen elsewhere")
            return
    yield Finding("listen", "ok", f"{config.agent.listen} is free")


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
    sampler = make_sampler(config, LeftBehind())
    try:
        await sampler.sample()
        components = [watched.component for watched in sampler.watched]
        missing = [line for each in sampler.watched for line in getattr(each.collector, "missing", ())]
    finally:
        await sampler.close()
    up = sum(component.state == "up" for component in components)
    absent = sum(component.state == "no data" for component in components)
    findings = [Finding("inputs", "ok", f"{up} give data, {absent} find nothing of their subject on this host")]
    for component in components:
        if component.state in {"failing", "hung"}:
            fix = f"host.collectors.{component.name}: off, if it is not wanted"
            findings.append(Finding(f"input {component.name}", "problem", component.reason, fix))
    return [*findings, *(Finding("input process", "note", line) for line in missing)]


async def _destination(export: Export) -> Finding:
    what = f"export {export.name}"
    output = registry.load(registry.OUTPUTS[export.type])(export)
    try:
        await output.start()
        async with asyncio.timeout(export.timeout_seconds + 1):
            await output.send(Batch(export.signals[0], b"", 0))
    except OutputUnavailable as error:
        return Finding(what, "problem", f"{export.endpoint}: {error}", "start the collector, or correct `endpoint`")
    except OutputRejected as error:
        fix = "correct `endpoint`, `protocol`, `headers` or `tls`: it answers, but not as an OTLP receiver"
        return Finding(what, "problem", f"{export.endpoint}: {error}", fix)
    except (AgentError, OSError) as error:
        return Finding(what, "problem", f"{export.endpoint}: {str(error) or 'no answer in time'}", "correct `endpoint`")
    finally:
        await output.stop()
    return Finding(what, "ok", f"{export.endpoint} takes {export.protocol}")
