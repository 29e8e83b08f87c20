"""Single parts, each side in a process of its own."""
