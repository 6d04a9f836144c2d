"""The frame of all pages, and the headers that keep foreign text harmless."""

import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files

import attrs
from twisted.web.template import Tag, tags

from nixery.http.answers import describe
from nixery.http.request import RegistryRequest
from nixery.reactor import IReactor, in_thread
from nixery.requirements import version
from nixery.web.pages.markup import markup

_STATIC = {
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "build.js": "text/javascript; charset=utf-8",
}
_HTML = "text/html; charset=utf-8"
# Three layers, of which one sees the upper sides; the lowest first.
_LOGO = {"low": "16 17 30 24 16 31 2 24", "middle": "16 9 30 16 16 23 2 16"}
_LOGO["top"] = "16 1 30 8 16 15 2 8"
_BUILDS, _DOCS, _API = ("Builds", "/builds"), ("Docs", "/docs"), ("API", "/api")
_SEARCH = "Search packages and images"
# No script and no style but our own files; nothing from elsewhere, and no frame around us.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

Content = Tag | str | None


@attrs.frozen
class StaticFile:
    """A file that pages refer to.

    :param digest: of the content, for URLs that change with it.
    """

    media_type: str
    content: bytes
    digest: str


def _load(name: str, media_type: str) -> StaticFile:
    content = files("nixery.web.pages").joinpath("static", name).read_bytes()
    return StaticFile(media_type, content, hashlib.sha256(content).hexdigest()[:16])


STATIC = {name: _load(name, media_type) for name, media_type in _STATIC.items()}


@attrs.frozen
class Page:
    """A page in the making.

    :param script: the name of the static file that makes it live, if one does.
    :param refresh: seconds after which a browser asks again; where the page has a script, only a
        browser without scripts does.
    :param query: the words in the field that searches.
    """

    title: str
    body: Sequence[Content]
    script: str = ""
    refresh: int = 0
    query: str = ""


def prefers_html(request: RegistryRequest) -> bool:
    """Whether the client is a browser rather than a program or a terminal."""
    return b"text/html" in (request.getHeader(b"accept") or b"")


def send_page(request: RegistryRequest, page: Page, status: int = 200) -> bytes:
    """Set the headers of a page.

    :return: its content.
    """
    return describe_page(request, written(request, page), status)


async def send_large_page(
    request: RegistryRequest, reactor: IReactor, make: Callable[[], Page]
) -> bytes:
    """Make and write a page in a thread, since the reactor has others to serve; set its headers.

    :return: its content.
    """
    content = await in_thread(reactor, lambda: written(request, make()))
    return describe_page(request, content)


def written(request: RegistryRequest, page: Page) -> bytes:
    """A page as HTML. It takes some milliseconds for 40 KB, and may be in a thread."""
    return b"<!DOCTYPE html>\n" + markup(_frame(request, page))


def describe_page(request: RegistryRequest, content: bytes, status: int = 200) -> bytes:
    """Set the headers of a page that is written.

    :return: its content.
    """
    request.setResponseCode(status)
    request.setHeader(b"Cache-Control", b"no-cache")
    return describe_safely(request, _HTML, content)


def send_parts(request: RegistryRequest, parts: Sequence[Content]) -> bytes:
    """Set the headers of parts that a script puts into a page.

    :return: their content.
    """
    content = markup(tags.transparent(*[each for each in parts if each]))
    request.setHeader(b"Cache-Control", b"no-cache")
    return describe_safely(request, _HTML, content)


def send_text(request: RegistryRequest, text: str, status: int = 200) -> bytes:
    """Set the headers of a page for a terminal.

    :return: its content.
    """
    request.setResponseCode(status)
    return describe_safely(request, "text/plain; charset=utf-8", text.encode("utf-8", "replace"))


def send_static(request: RegistryRequest, name: str) -> bytes | None:
    """Answer with a static file; nothing if there is none of that name."""
    file = STATIC.get(name)
    if file is None:
        return None
    request.setHeader(b"Cache-Control", b"public, max-age=31536000, immutable")
    return describe_safely(request, file.media_type, file.content)


def describe_safely(request: RegistryRequest, media_type: str, body: bytes) -> bytes:
    """Describe a body, with the headers by which a browser takes nothing for more than it is."""
    for name, value in (
        (b"Content-Security-Policy", _POLICY.encode("ascii")),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Referrer-Policy", b"same-origin"),
        (b"Vary", b"Accept"),
    ):
        request.setHeader(name, value)
    return describe(request, media_type, body)


def address(name: str) -> str:
    """The path of a static file."""
    return f"/static/{STATIC[name].digest}/{name}"


def _frame(request: RegistryRequest, page: Page) -> Tag:
    skip = tags.a("Skip to the content", href="#main", class_="skip")
    main = Tag("main", {"id": "main"}, [part for part in page.body if part is not None])
    said = tags.div(id="said", class_="unseen", **{"aria-live": "polite"})
    body = tags.body(skip, _banner(request, page.query), main, _footer(request), said)
    return tags.html(_head(page), body, lang="en")


def _head(page: Page) -> Tag:
    head = [
        tags.meta(charset="utf-8"),
        tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
        tags.title(page.title),
        tags.link(rel="stylesheet", href=address("style.css")),
        tags.link(rel="icon", href="data:,"),  # browsers ask for one otherwise
    ]
    for name in ("page.js", page.script):
        if name:
            head.append(tags.script(type="module", src=address(name)))
    if page.refresh:
        refresh = {"http-equiv": "refresh", "content": str(page.refresh)}
        again = tags.meta(**refresh)
        head.append(tags.noscript(again) if page.script else again)
    return tags.head(*head)


def _banner(request: RegistryRequest, query: str) -> Tag:
    """The name of the project, the search, and links to the parts of the site."""
    layers = [Tag("polygon", {"points": points, "class": name}) for name, points in _LOGO.items()]
    logo = Tag("svg", {"viewBox": "0 0 32 32", "aria-hidden": "true"}, [*layers])
    field = tags.input(type="search", name="q", value=query)
    field(
        placeholder="Packages and images",
        **{"aria-label": _SEARCH},
        autocomplete="off",
        spellcheck="false",
    )
    search = tags.form(
        field, tags.button("Search"), action="/packages", role="search", class_="search"
    )
    own = request.path.decode("utf-8", "replace")
    links = [_BUILDS, _DOCS, _API] if request.shows_builds else [_DOCS, _API]
    items = []
    for text, target in links:
        link, is_here = tags.a(text, href=target), own == target or own.startswith(f"{target}/")
        items.append(tags.li(link(**{"aria-current": "page"}) if is_here else link))
    return tags.header(
        tags.div(
            tags.a(logo, "Nixery", href="/", class_="home"),
            search if request.shows_builds else "",
            tags.nav(tags.ul(*items, class_="links"), **{"aria-label": "Site"}),
            class_="inner",
        ),
        class_="banner",
    )


def _footer(request: RegistryRequest) -> Tag:
    links = [_DOCS, _API, ("Package source", "/#source")]
    items = [tags.li(tags.a(text, href=target)) for text, target in links]
    more = tags.nav(tags.ul(*items, class_="links"), **{"aria-label": "About"})
    text = f"Nixery {version()}: container images made on demand"
    return tags.footer(tags.div(tags.span(text), more, class_="inner"))
