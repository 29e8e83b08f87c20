"""What a Novel Engine application imports to be observed; it never imports the agent.

Nothing starts at import, and nothing is imported before it is asked for: the names below are looked up in their
modules.
"""

TYPE_CHECKING = False  # as typing has it, which is not imported for this alone

if TYPE_CHECKING:
    from monitoring.health_checks import create_health_endpoint as create_health_endpoint
    from monitoring.health_checks import health_manager as health_manager
    from monitoring.opentelemetry_tracing import setup_tracing as setup_tracing
    from monitoring.prometheus_metrics import metrics_collector as metrics_collector
    from monitoring.prometheus_metrics import setup_prometheus_endpoint as setup_prometheus_endpoint
    from monitoring.structured_logging import setup_structured_logging as setup_structured_logging

_NAMES = {
    "setup_prometheus_endpoint": "monitoring.prometheus_metrics:setup_prometheus_endpoint",
    "metrics_collector": "monitoring.prometheus_metrics:metrics_collector",
    "setup_tracing": "monitoring.opentelemetry_tracing:setup_tracing",
    "setup_structured_logging": "monitoring.structured_logging:setup_structured_logging",
    "create_health_endpoint": "monitoring.health_checks:create_health_endpoint",
    "health_manager": "monitoring.health_checks:health_manager",
}


def __getattr__(name: str) -> object:
    """A public name from its module (PEP 562), remembered here."""
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, _, attribute = _NAMES[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
