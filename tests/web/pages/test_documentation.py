"""The documentation, as it is shown."""

from pathlib import Path

import pytest
import pytest_twisted
from twisted.web.template import Tag, flattenString

from nixery.web.pages.documentation import (
    GROUPS,
    DocsPage,
    document_page,
    find_documentation,
    read_documentation,
)
from tests.readme import TOP
from tests.web.pages.browsing import Elements, page
from tests.web.server import serving

MARKDOWN = """# Title of `it`

First words
go on. Second [images.md](images.md#a-b): <script>alert(1)</script> & "more".

## Over *there*

| a | b |
|---|---|
| `c` | [d](https://d.example) |

## Over there

- one [file](../setup.py)
- two **strong**

```console
$ x <y>
```
"""

IMAGES = DocsPage.parse("images", "# What is in it\n\nMuch. And more.")


def shown(text: str) -> Elements:
    """A document as a browser reads it."""
    parts: list[bytes] = []
    content = document_page(DocsPage.parse("x", text), {"images": IMAGES}).body[0]
    assert isinstance(content, Tag)
    flattenString(None, content.children[2]).addCallback(parts.append)
    return Elements(parts[0].decode())


def test_markdown() -> None:
    """Headings have the anchors that GitHub gives them; links lead to other documents here, and
    nowhere if only a checkout has their target; HTML is text."""
    elements = shown(MARKDOWN)
    headings = [a["id"] for tag, a in elements.elements if tag in ("h1", "h2")]
    assert headings == ["title-of-it", "over-there", "over-there-1"]
    assert [a["href"] for a in elements.of("a")] == ["/docs/images#a-b", "https://d.example"]
    assert '<script>alert(1)</script> & "more".' in elements.text
    assert "Second What is in it:" in elements.text
    assert "$ x <y>" in elements.text
    assert "one file" in elements.text
    assert elements.of("script") == []
    assert len(elements.of("td")) == 2


def test_in_short() -> None:
    """A document is listed by its heading and its first sentence."""
    document = DocsPage.parse("x", MARKDOWN)
    assert (document.title, document.summary) == ("Title of it", "First words go on.")


@pytest.mark.parametrize("target", ["javascript:alert(1)", "data:text/html,x", "//x", "/v2/"])
def test_other_links(target: str) -> None:
    """No link leads to anything but web pages and documents."""
    assert shown(f"# x\n\n[x]({target})").of("a") == []


def test_where_it_is(tmp_path: Path) -> None:
    """An installed package has the documentation inside, a checkout beside it."""
    assert find_documentation(str(TOP / "nixery")) == str(TOP / "docs")
    inside = tmp_path / "documentation"
    inside.mkdir()
    assert find_documentation(str(tmp_path)) == str(inside)


@pytest_twisted.ensureDeferred
async def test_every_document() -> None:
    """Each document has a page, and as text what is in its file; all links between them lead to
    headings that are there."""
    names = read_documentation(str(TOP / "docs"))
    assert {name for group in GROUPS.values() for name in group} <= set(names)
    async with serving() as server:
        index = await page(server, "/docs")
        listed = [a["href"] for a in index.of("a") if a["href"].startswith("/docs/")]
        assert sorted(listed) == sorted(f"/docs/{name}" for name in names)
        pages = {f"/docs/{name}": await page(server, f"/docs/{name}") for name in names}
        for name in names:
            answer = await server.ask(f"/docs/{name}")
            assert answer.body == (TOP / "docs" / f"{name}.md").read_bytes()
        for each in pages.values():
            assert len([a for a in each.of("a") if a.get("aria-current")]) == 2
            assert {"href": "/docs"} in each.of("a")
            for link in (a["href"] for a in each.of("a") if a["href"].startswith("/docs/")):
                path, _, anchor = link.partition("#")
                assert not anchor or anchor in {a.get("id") for _, a in pages[path].elements}
        assert (await server.ask("/docs/none")).status == 404
        assert (await server.ask("/docs/..%2fREADME")).status == 404
