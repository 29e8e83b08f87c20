"""Lines of files to log records: formats, what belongs together, and OTLP bytes."""
