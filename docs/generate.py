"""Write what is made from the declarations in the code: conf.d samples and the reference pages. `make docs`."""

from pathlib import Path

from novel_agent.config.collectors import registered_rows
from novel_agent.config.reference import generated_files
from novel_agent.inputs.otlp import counts
from novel_agent.model.metric import Family
from novel_agent.runtime import budget, delivery, destinations, forward, sampling, selfstats, spans, tail
from novel_agent.runtime.catalogue import reference
from novel_agent.serving import traffic

ROOT = Path(__file__).parent.parent
ABOUT_ITSELF = (selfstats, budget, counts, delivery, destinations, forward, sampling, spans, tail, traffic)


def generated() -> dict[str, str]:
    """Path below the repository to text."""
    return {**generated_files(registered_rows()), "docs/reference/metrics.md": reference() + about_itself()}


def about_itself() -> str:
    """What the agent shows of itself, as a section of the reference."""
    families = [
        each
        for module in ABOUT_ITSELF
        for each in vars(module).values()
        if isinstance(each, Family) and each.name.startswith(("novel_agent_", "node_scrape_"))
    ]
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.help} |".replace(
            "|  |", "| |"
        )
        for each in sorted(families, key=lambda each: each.name)
    ]
    head = [
        "",
        "## The agent itself",
        "",
        "On `/metrics` only.",
        "",
        "| name | type | labels | what |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    for path, text in generated().items():
        (ROOT / path).write_text(text)
