"""The frame of all pages, and the headers that keep foreign text harmless."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files

import attrs
from twisted.web.template import Tag, flattenString, tags

from nixery.http.answers import describe
from nixery.http.request import RegistryRequest

_STATIC = {
    "style.css": "text/css; charset=utf-8",
    "copy.js": "text/javascript; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "build.js": "text/javascript; charset=utf-8",
}
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
    :param refresh: seconds after which a browser without scripts asks again.
    """

    title: str
    body: Sequence[Content]
    script: str = ""
    refresh: int = 0


def prefers_html(request: RegistryRequest) -> bool:
    """Whether the client is a browser rather than a program or a terminal."""
    return b"text/html" in (request.getHeader(b"accept") or b"")


async def send_page(request: RegistryRequest, page: Page, status: int = 200) -> bytes:
    """Set the headers of a page.

    :return: its content.
    """
    content = b"<!DOCTYPE html>\n" + await flattenString(None, _frame(page))
    request.setResponseCode(status)
    request.setHeader(b"Cache-Control", b"no-cache")
    return describe_safely(request, "text/html; charset=utf-8", content)


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


def _frame(page: Page) -> Tag:
    head = [
        tags.meta(charset="utf-8"),
        tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
        tags.title(page.title),
        tags.link(rel="stylesheet", href=address("style.css")),
        tags.link(rel="icon", href="data:,"),  # browsers ask for one otherwise
    ]
    for name in ("copy.js", page.script):
        if name:
            head.append(tags.script(type="module", src=address(name)))
    if page.refresh:
        refresh = {"http-equiv": "refresh", "content": str(page.refresh)}
        head.append(tags.noscript(tags.meta(**refresh)))
    banner = tags.header(tags.a("Nixery", href="/", class_="home"), class_="banner")
    main = Tag("main", {"id": "main"}, [part for part in page.body if part is not None])
    skip = tags.a("Skip to the content", href="#main", class_="skip")
    return tags.html(tags.head(*head), tags.body(skip, banner, main), lang="en")
