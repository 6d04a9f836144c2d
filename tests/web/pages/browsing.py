"""Pages as browsers get them."""

import re
from html.parser import HTMLParser
from typing import Any

from nixery.history.history import History
from nixery.model.events import Event, Found, Furnished, Grouped, Measured, Realised, Resolved
from tests.history.histories import begin
from tests.web.server import MANIFEST, Answer, Server

HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9"}
EVIL = "<script>alert(1)</script>&amp;\x1b[31m"


class Elements(HTMLParser):
    """The names and attributes of a page's elements, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, name: str) -> list[dict[str, Any]]:
        return [attributes for tag, attributes in self.elements if tag == name]


async def page(server: Server, path: str, status: int = 200) -> Elements:
    """A page as a browser gets it, which is a page that browsers may trust."""
    answer = await server.ask(path, headers=HTML)
    assert answer.status == status, answer.body
    check_frame(answer)
    elements = Elements(answer.body.decode())
    for attributes in elements.of("script"):
        assert re.fullmatch(r"/static/[0-9a-f]{16}/[a-z]+\.js", attributes["src"])
    assert not [a for _, a in elements.elements if any(name.startswith("on") for name in a)]
    assert elements.of("html") == [{"lang": "en"}]
    assert len(elements.of("h1")) == len(elements.of("main")) == 1
    return elements


def check_frame(answer: Answer) -> None:
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def made(history: History, name: str = "git/jq", *furnished: Furnished) -> str:
    """A build that was done."""
    record = begin(history, name)
    events: list[Event] = [
        Resolved("the folder x", "1"),
        *furnished,
        Found("jq", "jq", f"jq-1.6{EVIL}"),
        Realised(12, 345_000_000),
        Measured("jq", 3, 67_800_000),
        Grouped(3, 1),
    ]
    for event in events:
        record.emit(event)
    record.done(str(MANIFEST.digest))
    return record.id
