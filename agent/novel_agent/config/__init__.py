"""Text to values: load, merge, check. Keeps file and line of every value; knows no plugin."""
