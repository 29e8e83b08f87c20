"""Novel Engine Agent: one daemon that samples, receives, forwards and shows a host's telemetry."""

__version__ = "0.1.0"
