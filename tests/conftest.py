"""What every test gets."""

import logging

import pytest
from hypothesis import settings

# No example has to be quick: this machine may be busy. In CI Hypothesis' own profile for that stays the base.
settings.register_profile("unhurried", parent=settings(), deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """The agent sets up logging for the whole process; a test that runs it must not change what later tests see."""
    loggers = (logging.getLogger(), logging.getLogger("novel_agent"))
    kept = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in kept:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
