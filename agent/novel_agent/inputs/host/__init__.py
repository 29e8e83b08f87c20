"""The host: one module a collector, named as node_exporter names it."""
