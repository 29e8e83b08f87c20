"""Data through the whole agent, from a socket or a file to a sink: ours and the rivals in turn."""
