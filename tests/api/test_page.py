import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from novel_agent.api.page import FILES

from .conftest import Running

WEB = Path(__file__).parents[2] / "agent" / "novel_agent" / "api" / "web"


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._in: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in {"script", "style"}:
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        if self._in:
            self.inline += data.strip()


@pytest.fixture
def page() -> Elements:
    return Elements((WEB / "index.html").read_text())


@pytest.mark.parametrize(("path", "file"), FILES.items())
async def test_its_files_are_served(agent: Running, path: str, file: tuple[str, str]) -> None:
    name, media_type = file
    reply = await agent.ask(path)
    assert reply.status == 200
    assert reply.body == (WEB / name).read_bytes()
    assert reply.headers["content-type"] == f"{media_type}; charset=utf-8"


def test_nothing_lies_in_the_folder_that_is_not_served() -> None:
    assert {path.name for path in WEB.iterdir()} == {name for name, _ in FILES.values()}


async def test_an_unchanged_file_is_not_sent_again(agent: Running) -> None:
    tag = (await agent.ask("/page.js")).headers["etag"]
    reply = await agent.ask("/page.js", If_None_Match=tag)
    assert (reply.status, reply.body) == (304, b"")
    assert (await agent.ask("/page.js", If_None_Match='"other"')).status == 200


async def test_its_policy_allows_nothing_but_its_own_files(agent: Running) -> None:
    policy = (await agent.ask("/")).headers["content-security-policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert {tuple(sources) for sources in rules.values()} == {("'none'",), ("'self'",)}
    for forbidden in ["default-src", "base-uri", "form-action", "frame-ancestors"]:
        assert rules[forbidden] == ["'none'"]


def test_it_loads_nothing_from_elsewhere(page: Elements) -> None:
    referred = [value for _, attributes in page.found for name, value in attributes.items() if name in {"src", "href"}]
    served = {path.lstrip("/") for path in FILES} | {
        "metrics",
        "health/detailed",
        "api/v1/status",
        "openapi.json",
        "#main",
    }
    assert referred
    assert set(referred) <= served
    for name in ["page.css", "page.js", "index.html"]:
        text = (WEB / name).read_text()
        assert not re.search(r"https?://|@import|url\(|//cdn", text)


def test_it_has_no_inline_script_or_style(page: Elements) -> None:
    assert page.inline == ""
    for _, attributes in page.found:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_data_never_becomes_markup() -> None:
    script = (WEB / "page.js").read_text()
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        'setAttribute("on',
    ]:
        assert way not in script


def test_every_element_the_script_asks_for_exists(page: Elements) -> None:
    ids = {attributes["id"] for _, attributes in page.found if "id" in attributes}
    asked = set(re.findall(r'\$\("([\w-]+)"\)', (WEB / "page.js").read_text()))
    assert asked
    assert asked <= ids
    assert {f"tile-{name}" for name in ("cpu", "memory", "load", "disk", "network")} <= ids


def test_it_can_be_used_without_a_mouse_and_by_a_screen_reader(page: Elements) -> None:
    tags = [tag for tag, _ in page.found]
    assert dict(page.found)["html"]["lang"] == "en"
    assert tags.count("h1") == 1
    assert all("alt" in attributes for tag, attributes in page.found if tag == "img")
    labels = {attributes["for"] for tag, attributes in page.found if tag == "label"}
    assert {attributes["id"] for tag, attributes in page.found if tag == "input"} == labels
    assert not [
        attributes for _, attributes in page.found if "tabindex" in attributes and attributes["tabindex"] != "-1"
    ]


def test_the_token_is_kept_for_the_tab_alone() -> None:
    script = (WEB / "page.js").read_text()
    assert "sessionStorage" in script
    assert "localStorage" not in script
    assert "document.cookie" not in script
