"""Bytes from and to nouns: pure functions, no input or output, no clock."""
