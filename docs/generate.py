"""Write what is made from the declarations in the code: conf.d samples and the reference pages. `make docs`."""

from pathlib import Path

from novel_agent.config.collectors import registered_rows
from novel_agent.config.reference import generated_files
from novel_agent.runtime.catalogue import reference

ROOT = Path(__file__).parent.parent


def generated() -> dict[str, str]:
    """Path below the repository to text."""
    return {**generated_files(registered_rows()), "docs/reference/metrics.md": reference()}


if __name__ == "__main__":
    for path, text in generated().items():
        (ROOT / path).write_text(text)
