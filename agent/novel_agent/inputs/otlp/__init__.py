"""The OTLP receivers: what the application sends over HTTP and gRPC, bounded, validated and handed on as it came."""
