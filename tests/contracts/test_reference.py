"""What is generated from the declarations is in the tree as it would be generated now."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_reference_pages_and_samples_are_as_generated():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [path for path, text in generate.generated().items() if (ROOT / path).read_text() != text]
    assert stale == [], "make docs"
