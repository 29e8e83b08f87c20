"""Processes, counted by group: who belongs together, what they used, what they hold."""

from novel_agent.inputs.process.collector import ProcessGroups

__all__ = ["ProcessGroups"]
