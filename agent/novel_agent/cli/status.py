"""What runs, what lags, what was dropped and why, and what it costs. Problems come first. Exit 1 unless healthy."""

import argparse
import json

from novel_agent.cli import screen
from novel_agent.cli.client import ask
from novel_agent.cli.options import add_agent_options, add_config_options
from novel_agent.runtime.status import DestinationStatus, LogFileStatus, LogSourceStatus, ReceiverStatus, Status
from novel_agent.runtime.supervise import Component


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `status`."""
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--all", action="store_true", help="every input, also those that are well")
    add_agent_options(parser)
    add_config_options(parser)


def main(args: argparse.Namespace) -> int:
    """Ask and print."""
    answer, status = ask(args, "/api/v1/status", Status)
    print(json.dumps(answer, indent=2) if args.json else describe(status, everything=args.all))
    return 0 if status.health.status == "healthy" else 1


def describe(status: Status, *, everything: bool = False) -> str:
    """The status as a page of text."""
    parts = [
        _head(status),
        _problems(status),
        _receivers(status),
        _logs(status, everything=everything),
        _destinations(status),
        _components(status, everything=everything),
    ]
    if status.renamed:
        lines = [f"  {wanted} is shown as {shown}: that name is taken" for wanted, shown in status.renamed.items()]
        parts.append("Metrics received under a name that is taken\n" + "\n".join(lines))
    if status.missing:
        parts.append("Not visible to this user\n" + "\n".join(f"  {line}" for line in status.missing))
    if status.config.notices:
        parts.append("Configuration notices\n" + "\n".join(f"  {line}" for line in status.config.notices))
    return "\n\n".join(part for part in parts if part)


def _head(status: Status) -> str:
    uptime = status.now - status.started_at
    share = 100 * status.cpu_seconds / uptime if uptime > 0 else 0.0
    budget = status.budget
    rows = [
        f"Novel Engine Agent {status.version} on {status.host}: {screen.state(status.health.status)}",
        f"  up          {screen.span(uptime)}, process {status.pid}, {status.listen}",
        f"  costs       {share:.2f} % of a core since start, {screen.size(status.resident_bytes)} resident,"
        f" {status.open_descriptors} descriptors",
        f"  budget      {budget.cpu_percent:g} % and {screen.size(budget.memory_bytes)}:"
        f" {100 * budget.cpu_of_budget:.0f} % and {100 * budget.memory_of_budget:.0f} % of it used, {budget.measure}",
        f"  state       {status.state_dir}",
        f"  configured  {', '.join(status.config.files) or 'by defaults'},"
        f" {screen.ago(status.config.loaded_at, status.now)}",
    ]
    if status.left_behind:
        rows.append(f"  left behind {status.left_behind} calls into the kernel that have not returned")
    return "\n".join(rows)


def _problems(status: Status) -> str:
    bad = [check for check in status.health.checks if check.status != "healthy"]
    if not bad:
        return ""
    lines = [f"  {screen.state(check.status, 9)}  {check.name}: {check.message}" for check in bad]
    lines += [f"             {line}" for line in status.config.errors]
    return "Problems\n" + "\n".join(lines)


def _receivers(status: Status) -> str:
    if not status.receivers:
        return "Receivers\n  none: nothing is taken over OTLP (section `otlp_receiver`)"
    head = ("OTLP", "ADDRESS", "CONNECTIONS", "RECEIVED", "ACCEPTED", "REFUSED")
    return "Receivers\n" + screen.table(head, [_receiver(each) for each in status.receivers])


def _receiver(each: ReceiverStatus) -> tuple[object, ...]:
    accepted = [f"{items} {_ITEMS[signal]}" for signal, items in each.accepted_items.items() if items]
    return (
        each.transport,
        each.address or "-",
        each.connections,
        screen.size(each.received_bytes),
        ", ".join(accepted) or "none",
        ", ".join(f"{count} {reason}" for reason, count in each.refused.items()) or "none",
    )


_ITEMS = {"metrics": "data points", "logs": "log records", "traces": "spans"}


def _logs(status: Status, *, everything: bool) -> str:
    if not status.logs:
        return "Logs\n  none: no file is read (section `logs`)"
    head = ("NAME", "STATE", "RECORDS", "A SECOND", "READ", "BEHIND", "ERRORS", "LEFT OUT", "WHY")
    lines = ["Logs", screen.table(head, [_log_source(each) for each in status.logs], states=1)]
    files = [(source, file) for source in status.logs for file in source.files]
    worth = [each for each in files if everything or each[1].lag_bytes or each[1].reason or each[1].errors]
    worth = worth or files[:_SHOWN_FILES]
    if worth:
        columns = ("FILE", "STATE", "SIZE", "READ TO", "SAFE TO", "BEHIND", "A SECOND", "ERRORS", "IDENTITY", "WHY")
        shown = worth if everything else worth[:_SHOWN_FILES]
        lines += ["", screen.table(columns, [_log_file(file) for _, file in shown], states=1)]
        if len(shown) < len(files):
            lines.append(f"  {len(files) - len(shown)} more files; --all shows them")
    return "\n".join(lines)


def _log_source(each: LogSourceStatus) -> tuple[object, ...]:
    return (
        each.name,
        each.state,
        each.records,
        f"{each.records_per_second:.1f}",
        screen.size(each.read_bytes),
        _behind(each.lag_bytes, each.lag_seconds),
        ", ".join(f"{count} {reason}" for reason, count in each.errors.items() if count) or "0",
        ", ".join(f"{count} {reason}" for reason, count in each.dropped.items() if count) or "0",
        each.reason or "-",
    )


def _log_file(each: LogFileStatus) -> tuple[object, ...]:
    return (
        each.path,
        each.state,
        screen.size(each.size_bytes),
        each.read_offset,
        each.committed_offset,
        _behind(each.lag_bytes, each.lag_seconds),
        f"{each.records_per_second:.1f}",
        each.errors,
        each.identity,
        each.reason or "-",
    )


def _behind(lag_bytes: int, lag_seconds: float) -> str:
    return f"{screen.size(lag_bytes)}, {screen.span(lag_seconds)}" if lag_bytes else "-"


_SHOWN_FILES = 20


def _destinations(status: Status) -> str:
    if not status.destinations:
        return "Destinations\n  none: nothing is exported (section `export`)"
    head = ("NAME", "STATE", "WAITS", "SINCE", "SENT", "LAST", "RETRIES", "LOST", "WHY")
    return "Destinations\n" + screen.table(
        head, [_destination(each, status.now) for each in status.destinations], states=1
    )


def _destination(each: DestinationStatus, now: float) -> tuple[object, ...]:
    lost = {**each.dropped_items, **each.rejected_items}
    why = each.last_error if (each.last_error_at or 0) > (each.last_success_at or 0) else ""
    return (
        each.name,
        each.state,
        f"{screen.size(each.queue_bytes)} of {screen.size(each.queue_capacity_bytes)}"
        + (" in memory" if each.queue_in_memory else ""),
        screen.span(each.queue_oldest_age_seconds) if each.queue_bytes else "-",
        sum(each.sent_items.values()),
        screen.ago(each.last_success_at, now),
        each.retries,
        ", ".join(f"{count} {reason}" for reason, count in lost.items() if count) or "0",
        why or "-",
    )


def _components(status: Status, *, everything: bool) -> str:
    counts: dict[str, int] = {}
    for each in status.components:
        counts[each.state] = counts.get(each.state, 0) + 1
    summary = ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
    worth = [each for each in status.components if everything or each.state in {"failing", "hung", "restarting"}]
    title = f"Inputs and tasks: {summary}"
    if not worth:
        return title
    head = ("NAME", "KIND", "STATE", "RUNS", "FAILED", "LATE", "LAST RUN", "TAKES", "WHY")
    return f"{title}\n" + screen.table(head, [_component(each, status.now) for each in worth], states=2)


def _component(each: Component, now: float) -> tuple[object, ...]:
    takes = "-" if not each.runs or each.kind == "task" else f"{1000 * each.seconds / each.runs:.2f} ms"
    return (
        each.name,
        each.kind,
        each.state,
        each.runs,
        each.failures,
        each.timeouts,
        screen.ago(each.last_run_at, now) if each.kind != "task" else "-",
        takes,
        each.reason or "-",
    )
