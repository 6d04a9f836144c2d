"""The documentation as pages: Markdown, of which nothing is taken for HTML."""

import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from posixpath import basename
from typing import TYPE_CHECKING

import attrs
from twisted.web.template import Tag, tags

from nixery.web.pages.page import Page

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

GROUPS = {
    "Pull images": (
        *("names", "images", "clients", "attestations", "signatures", "builds", "errors"),
    ),
    "Run a registry": (
        *("sources", "settings", "access", "command", "api", "operations", "evaluation"),
        *("kubernetes", "nginx", "haproxy", "metrics", "runbook", "backup", "upgrade"),
    ),
}
"""The documents that come first, by whom they are for; all others follow in the last group."""
_HIDDEN = {"architecture", "pages"}  # for those who change Nixery
_NO_WORD = re.compile(r"[^\w\- ]")


@functools.cache
def _markdown() -> "MarkdownIt":
    """Of the syntax, what the documentation uses; HTML is text."""
    # The library has sixty modules, which the daemon's start need not wait for.
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")


@attrs.frozen
class DocsPage:
    """A document that is served.

    :param name: in its address.
    :param summary: its first sentence.
    :param text: Markdown.
    """

    name: str
    title: str
    summary: str
    text: str

    @classmethod
    def parse(cls, name: str, text: str) -> "DocsPage":
        """Read a document, which begins with a heading."""
        tokens = _markdown().parse(text)
        title = next(_plain(token) for token in tokens if token.type == "inline")
        first = next(i for i, token in enumerate(tokens) if token.type == "paragraph_open")
        sentence = _plain(tokens[first + 1]).partition(". ")[0].rstrip(".:")
        return cls(name, title, f"{sentence}.", text)


def find_documentation(package: str) -> str:
    """The folder of the documentation: in an installed package, or beside it in a checkout.

    :param package: the folder of the package ``nixery``.
    """
    inside = Path(package, "documentation")
    return str(inside if inside.is_dir() else Path(package).parent / "docs")


def read_documentation(folder: str) -> dict[str, DocsPage]:
    """The documents of a folder, by name, in the order in which they are listed."""
    found = {path.stem: path for path in sorted(Path(folder).glob("*.md"))}
    first = [name for group in GROUPS.values() for name in group]
    names = [name for name in (*first, *found) if name in found and name not in _HIDDEN]
    return {n: DocsPage.parse(n, found[n].read_text("utf-8")) for n in dict.fromkeys(names)}


def index_page(documents: Mapping[str, DocsPage]) -> Page:
    """The list of all documents."""
    sections = []
    for title, group in _grouped(documents):
        shown = [
            tags.li(
                tags.a(each.title, href=f"/docs/{each.name}"), tags.p(each.summary, class_="soft")
            )
            for each in group
        ]
        sections.append(tags.section(tags.h2(title), tags.ul(*shown, class_="list")))
    body = [tags.h1("Documentation"), tags.div(*sections, class_="columns")]
    return Page("Documentation of Nixery", body)


def document_page(document: DocsPage, documents: Mapping[str, DocsPage]) -> Page:
    """A document.

    :param documents: all of them, by name: it may link to them.
    """
    parts = _Writer(documents).parts(_markdown().parse(document.text))
    groups: list[Tag] = []
    for title, group in _grouped(documents):
        items = []
        for each in group:
            here = {"aria-current": "page"} if each.name == document.name else {}
            items.append(tags.li(tags.a(each.title, href=f"/docs/{each.name}", **here)))
        groups += [tags.h2(title), tags.ul(*items)]
    body = tags.div(
        tags.nav(*groups, **{"aria-label": "Documents"}),
        tags.p(tags.a("Documentation", href="/docs")),
        tags.article(*parts, class_="prose"),
        class_="docs",
    )
    return Page(f"{document.title}: documentation of Nixery", [body])


def _grouped(documents: Mapping[str, DocsPage]) -> Iterator[tuple[str, list[DocsPage]]]:
    """The documents of each group."""
    *_, last = GROUPS
    known = {name for group in GROUPS.values() for name in group}
    others = tuple(name for name in documents if name not in known)
    for title, names in GROUPS.items():
        listed = (*names, *(others if title == last else ()))
        yield title, [documents[name] for name in listed if name in documents]


def _plain(token: "Token") -> str:
    """The text of a paragraph or heading, without markup."""
    children = token.children or []
    return "".join(" " if each.type == "softbreak" else each.content for each in children)


class _Writer:
    """Makes elements of Markdown's tokens."""

    def __init__(self, documents: Mapping[str, DocsPage]) -> None:
        self._documents = documents
        self._headings: Counter[str] = Counter()
        self._tables = 0

    def parts(self, tokens: "Sequence[Token]") -> list[Tag | str]:
        """The elements of a document, or of a paragraph."""
        root = tags.transparent()
        open_ = [root]
        for number, token in enumerate(tokens):
            if token.nesting > 0:
                tag = self._tag(token, tokens[number + 1])
                open_[-1](self._wide(tag) if token.tag == "table" else tag)
                open_.append(tag)
            elif token.nesting < 0:
                open_.pop()
            else:
                open_[-1](*self._leaf(token))
        return root.children  # type: ignore[return-value]

    def _tag(self, token: "Token", inside: "Token") -> Tag:
        if token.hidden:  # the paragraph of an item in a tight list
            return tags.transparent()
        tag = Tag(token.tag)
        if token.type == "heading_open":
            return tag(id=self._anchor(_plain(inside)))
        if token.type == "link_open":
            target = self._target(str(token.attrs["href"]))
            return tag(href=target) if target else tags.span()
        return tag

    def _leaf(self, token: "Token") -> list[Tag | str]:
        match token.type:
            case "inline":
                return self.parts(token.children or [])
            case "code_inline":
                return [tags.code(token.content)]
            case "fence" | "code_block":
                return [tags.pre(tags.code(token.content.rstrip("\n")), tabindex="0")]
            # A document that is called by its file's name is called by its title.
            case "text" if self._title(token.content):
                return [self._title(token.content)]
            case "softbreak":
                return ["\n"]
            case "hardbreak" | "hr":
                return [Tag(token.tag)]
            case _:
                return [token.content]

    def _title(self, text: str) -> str:
        """The title of the document whose file a text names; empty if it names none."""
        name = text.removeprefix("docs/").removesuffix(".md")
        named = name != text and name in self._documents
        return self._documents[name].title if named else ""

    def _anchor(self, heading: str) -> str:
        """The ID of a heading, as GitHub makes it."""
        slug = _NO_WORD.sub("", heading.lower()).replace(" ", "-")
        self._headings[slug] += 1
        before = self._headings[slug] - 1
        return f"{slug}-{before}" if before else slug

    def _target(self, link: str) -> str:
        """Where a link leads from here; nothing if only a checkout has it."""
        if link.startswith(("https://", "http://", "#")):
            return link
        path, _, heading = link.partition("#")
        name = basename(path).removesuffix(".md")
        here = path.endswith(".md") and name in self._documents
        return f"/docs/{name}{'#' if heading else ''}{heading}" if here else ""

    def _wide(self, table: Tag) -> Tag:
        self._tables += 1
        label = {"aria-label": f"Table {self._tables}"}
        return tags.div(table, class_="wide", tabindex="0", role="region", **label)
