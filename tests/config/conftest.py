"""Configurations as files on disk, loaded with three invented collectors."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, field

from novel_agent.config.collectors import CollectorRow
from novel_agent.config.load import load as load_configuration
from novel_agent.config.model import Loaded, Sources
from novel_agent.config.schema import Duration, Regex, Section
from novel_agent.config.show import show
from novel_agent.errors import ConfigErrors


class DiskOptions(Section, frozen=True, kw_only=True):
    """Which disks are shown."""

    exclude_disks: Annotated[Regex, Meta(description="Disks left out.")] = "^loop"
    timeout_seconds: Annotated[Duration, Meta(gt=0, description="How long one may take.")] = field(
        default=5.0, name="timeout"
    )
    only: Annotated[tuple[str, ...], Meta(description="Nothing else.")] = ()
    depth: int | bool = 3


_OPTIONS: dict[str, type[msgspec.Struct]] = {"disk": DiskOptions}
_COLLECTORS = ("cpu", "disk", "memory")


class Place:
    """A directory with an agent.yaml and a conf.d."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "agent.yaml"
        self.conf_dir = root / "conf.d"
        self.conf_dir.mkdir()

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return path

    def load(self, **more: Any) -> Loaded:
        sources = Sources(config=str(self.config) if self.config.exists() else "", conf_dir=str(self.conf_dir), **more)
        return load_configuration(sources, collector_names=_COLLECTORS, collector_options=_OPTIONS.get)

    @staticmethod
    def show(loaded: Loaded, *, with_origin: bool = False) -> str:
        return show(loaded, with_origin, collector_options=_OPTIONS.get)

    def mistakes(self, **more: Any) -> list[str]:
        """The errors, with the directory taken off."""
        with pytest.raises(ConfigErrors) as raised:
            self.load(**more)
        return [str(error).replace(f"{self.root}/", "") for error in raised.value.errors]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def rows() -> list[CollectorRow]:
    """A collector without options that is on, and one with options that is off."""
    return [
        CollectorRow("cpu", "time of processors", True, Section),
        CollectorRow("disk", "disks | their use", False, DiskOptions),
    ]


@pytest.fixture
def mistakes_in(place: Place) -> Callable[[str], list[str]]:
    """What is wrong with an agent.yaml of this text; its name is taken off."""

    def check(text: str) -> list[str]:
        place.write("agent.yaml", text)
        return [mistake.removeprefix("agent.yaml:") for mistake in place.mistakes()]

    return check
