"""What `/metrics` says: the library's series of all workers, then prometheus-client's default registry."""

import logging
import os
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import REGISTRY, Metric
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from monitoring._said import say_once
from monitoring._series import Family, Key, exemplar_at
from monitoring._workers import workers

_registered: set[str] = set()


class LibraryCollector(Collector):
    """The library's families. It describes nothing, so that registering it, or a name of its own later, never raises.

    `aside.is_page` is true in the thread that makes the page, which has these families already when it asks the
    registry.
    """

    aside = threading.local()

    def collect(self) -> Iterable[Metric]:
        """Every family of every worker."""
        if getattr(self.aside, "is_page", False):
            return ()
        families: dict[str, Metric] = {}
        for key, cells in sorted(workers.collected().items(), key=lambda item: (item[0].family.name, item[0].labels)):
            family = key.family
            metric = families.get(family.name)
            if metric is None:
                metric = families[family.name] = Metric(family.name.removesuffix("_total"), family.help, family.kind)
            elif metric.type != family.kind:
                continue
            _add_samples(metric, key, cells)
        return families.values()

    def describe(self) -> Iterable[Metric]:
        """Nothing."""
        return ()


class Page(Collector):
    """Both, each name once. What comes second under a name is left out and said."""

    def collect(self) -> Iterator[Metric]:
        """The library's families, then the default registry's."""
        seen: set[str] = set()
        for metric in library.collect():
            seen.update(_names(metric))
            yield metric
        for metric in _default_registry():
            names = _names(metric)
            if seen.isdisjoint(names):
                seen |= names
                yield metric
            else:
                say_once(logging.ERROR, "metric is registered twice, the second is not shown", metric.name)


def answer(accept: str) -> tuple[bytes, str]:
    """The page in the format that `accept` asks for, and its media type. OpenMetrics carries the exemplars."""
    encoder, content_type = choose_encoder(accept)
    return encoder(page), content_type


def text() -> str:
    """The page in Prometheus' text format."""
    return generate_latest(page).decode()


def as_dict() -> dict[str, Any]:
    """The library's families by name: type, help, and samples with name, labels and value."""
    return {
        metric.name + ("_total" if metric.type == "counter" else ""): {
            "type": metric.type,
            "help": metric.documentation,
            "samples": [{"name": s.name, "labels": s.labels, "value": s.value} for s in metric.samples],
        }
        for metric in library.collect()
    }


def register() -> None:
    """Show the library's series to whoever renders prometheus-client's default registry; more than once is harmless."""
    if "library" not in _registered:
        _registered.add("library")
        REGISTRY.register(library)


def _default_registry() -> Iterator[Metric]:
    """The registry without this library. Of several workers only one answers, so there its series say which."""
    if _is_multiprocess():
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        yield from registry.collect()
        return
    for metric in _without_library():
        if workers.directory is not None:
            pid = {"pid": str(os.getpid())}
            metric.samples = [s if "pid" in s.labels else s._replace(labels=s.labels | pid) for s in metric.samples]
        yield metric


def _is_multiprocess() -> bool:
    """Whether prometheus-client itself keeps its values in files: it decides so when it is imported."""
    return bool(getattr(sys.modules["prometheus_client.values"].ValueClass, "_multiprocess", False))


def _without_library() -> Iterable[Metric]:
    library.aside.is_page = True
    try:
        return list(REGISTRY.collect())
    finally:
        library.aside.is_page = False


def _add_samples(metric: Metric, key: Key, cells: bytes) -> None:
    family, labels = key.family, dict(key.labels)
    if family.kind != "histogram":
        metric.add_sample(family.name, labels, struct.unpack_from("=d", cells)[0])
        return
    total, *counts = struct.unpack_from(f"={2 + len(family.buckets)}d", cells)
    passed = 0.0
    for bucket, count in enumerate(counts):
        passed += count
        bound = family.buckets[bucket] if bucket < len(family.buckets) else float("inf")
        metric.add_sample(
            family.name + "_bucket", labels | {"le": _bound(bound)}, passed, exemplar=_exemplar(family, cells, bucket)
        )
    metric.add_sample(family.name + "_count", labels, passed)
    metric.add_sample(family.name + "_sum", labels, total)


def _exemplar(family: Family, cells: bytes, bucket: int) -> Exemplar | None:
    noted = exemplar_at(cells, family, bucket) if family.exemplars else None
    if noted is None:
        return None
    trace_id, span_id, value, when = noted
    return Exemplar({"trace_id": trace_id, "span_id": span_id}, value, when)


def _bound(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


def _names(metric: Metric) -> set[str]:
    return {metric.name, *(sample.name for sample in metric.samples)}


library = LibraryCollector()
page = Page()
