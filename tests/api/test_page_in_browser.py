"""The page as Chromium shows it, where there is one."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from novel_agent.config.schema import Auth

from .conftest import Running, Start

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")

NASTY = '<img src=x onerror="document.title=1">'


async def shown(agent: Running, profile: Path) -> str:
    """The document after twelve seconds of the page's own time."""
    options = ["--headless=new", "--disable-gpu", "--disable-background-networking", "--dump-dom", "--no-first-run"]
    options += [f"--user-data-dir={profile}", "--virtual-time-budget=12000", "--enable-logging=stderr"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM, *options, agent.daemon.address, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            document, said = await browser.communicate()
    finally:
        if browser.returncode is None:
            browser.kill()
            await browser.wait()
    complaints = [line for line in said.decode(errors="replace").splitlines() if "CONSOLE" in line]
    assert complaints == [line for line in complaints if "401 (Unauthorized)" in line]
    return document.decode()


async def test_it_shows_what_is_wrong_and_why_as_text(agent: Running, tmp_path: Path) -> None:
    for watched in agent.daemon.sampler.watched:
        if watched.component.name == "cpu":
            monitored = watched
    original = monitored.collector.read

    def fail() -> None:
        raise OSError(5, NASTY)

    monitored.collector.read = fail  # type: ignore[method-assign]
    document = await shown(agent, tmp_path)
    monitored.collector.read = original  # type: ignore[method-assign]
    assert 'data-state="degraded" role="status"' in document
    assert "failing: cpu" in document
    assert "&lt;img src=x onerror" in document
    assert "<img src=x" not in document
    assert f"<title>▲ {agent.daemon.status().host} · Novel Engine Agent</title>" in document


async def test_it_asks_for_the_token_where_one_is_needed(start: Start, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("right")
    token.chmod(0o600)
    agent = await start(auth=Auth(token_file=str(token)))
    document = await shown(agent, tmp_path / "profile")
    assert '<form id="token-form" class="card ask">' in document
    assert '<div id="content" hidden="">' in document
