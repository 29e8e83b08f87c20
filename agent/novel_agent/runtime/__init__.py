"""How it runs: tasks, clocks, signals, retries, and the only catch-all handlers."""
