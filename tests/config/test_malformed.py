"""Two hundred configurations made wrong at random: each is loaded or refused by name, never anything else."""

import random
import re
from pathlib import Path

import pytest

from novel_agent.config.load import load
from novel_agent.config.model import Sources
from novel_agent.config.show import show
from novel_agent.errors import ConfigErrors

SAMPLES = [path.read_text() for path in sorted((Path(__file__).parents[2] / "conf.d").glob("*.yaml"))]
SNIPPETS = [
    "\t", "\x00", "\x1b", "\u2028", "\ufeff", "é", "😀", ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: *a", "!!int ",
    "!!python/name:os.system ", "|\n", ">\n", "'", '"', "\\", "#", "---\n", "...\n", "%YAML 1.1\n", "${", "${X}", "$${",
    "~", "on", "5", "-1", "1e999", "0x10", ".inf", "999999999999999999999999", "15s", "5MB", "null", "? ", "@", "`",
    "((((", "a{9999999999}", "[[:alpha:]]", "http://", "{comm}", "{x}", "_file", "   ",
]  # fmt: skip


def mutated(seed):
    chance = random.Random(seed)
    text = chance.choice(SAMPLES)
    if chance.random() < 0.8:
        text = re.sub(r"(?m)^( *)# ", r"\1", text)
    for _ in range(chance.randint(1, 6)):
        lines = text.splitlines(keepends=True) or [""]
        place, line = chance.randrange(len(text) + 1), chance.randrange(len(lines))
        match chance.randrange(7):
            case 0:
                text = text[:place] + chance.choice(SNIPPETS) + text[place:]
            case 1:
                text = text[:place] + text[place + chance.randint(1, 40) :]
            case 2:
                lines.insert(line, lines[chance.randrange(len(lines))])
                text = "".join(lines)
            case 3:
                lines[line] = "  " * chance.randint(0, 4) + lines[line].lstrip()
                text = "".join(lines)
            case 4:
                text = re.sub(r"(?<=: )[^#\n]+", lambda _: chance.choice(SNIPPETS), text, count=chance.randint(1, 9))
            case 5:
                text = text[:place]
            case _:
                key, _, value = lines[line].partition(":")
                lines[line] = f"{key}{chance.choice(SNIPPETS).strip()}:{value}"
                text = "".join(lines)
    return text.encode(errors="surrogatepass")


def outcome(seed, directory):
    path = directory / "a.yaml"
    path.write_bytes(mutated(seed))
    try:
        show(load(Sources(config="", conf_dir=str(directory), environ={"X": "y"})), with_origin=True)
    except ConfigErrors as raised:
        return [(error.file == str(path), bool(error.problem), "\n" in str(error)) for error in raised.errors]
    return None


@pytest.mark.parametrize("seed", range(200))
def test_a_configuration_made_wrong_is_loaded_or_refused_by_name(seed, tmp_path):
    mistakes = outcome(seed, tmp_path)
    assert mistakes is None or set(mistakes) == {(True, True, False)}


def test_most_of_them_are_refused(tmp_path):
    assert sum(outcome(seed, tmp_path) is not None for seed in range(200)) > 120
