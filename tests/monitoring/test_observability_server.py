import sys

import pytest

from monitoring.observability_server import agent_command

RUN = [sys.executable, "-m", "novel_agent", "run"]


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ([], []),
        (["--host", "0.0.0.0", "--port", "9090"], ["--listen", "0.0.0.0:9090"]),
        (["--port", "9200"], ["--listen", "127.0.0.1:9200"]),
        (["--host", "::1"], ["--listen", "[::1]:9090"]),
        (["--config", "observability_config.json"], ["--config", "observability_config.json"]),
        (["--log-level", "debug"], ["--log-level", "debug"]),
    ],
)
def test_its_options_become_the_agents(given, becomes):
    assert agent_command(given) == RUN + becomes


def test_an_unknown_option_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as ended:
        agent_command(["--prot", "9090"])
    assert ended.value.code == 2
    assert "--prot" in capsys.readouterr().err
