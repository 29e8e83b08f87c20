"""Ours against the rivals', paired in one run. `make bench`."""
