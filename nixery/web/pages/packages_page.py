"""The page of a package search."""

from collections.abc import Sequence
from urllib.parse import quote, urlencode

import attrs
from twisted.web.template import Tag, tags

from nixery.interfaces import SearchResult
from nixery.model.image_summary import ImageSummary
from nixery.model.package_set import Package
from nixery.model.tags import LATEST
from nixery.model.text import cut
from nixery.model.typed_name import TypedName
from nixery.web.pages.fragments import image_link
from nixery.web.pages.page import Content, Page

_LONGEST = 200  # characters of a description
_PROGRAMS = 6  # that are named
_AGAIN = 3  # seconds after which an index that is being made is looked for again


@attrs.frozen(eq=False)
class SearchView:
    """A search and its results.

    :param packages: those that the client may see.
    :param most: how many were asked for.
    :param limit: the most that can be asked for.
    :param name: the query as the name of an image.
    :param images: that have all words of it in their names.
    """

    query: str
    result: SearchResult
    packages: Sequence[Package]
    most: int
    limit: int
    name: TypedName
    images: Sequence[ImageSummary]


def packages_page(found: SearchView) -> Page:
    """The page for browsers."""
    title = f"Packages: {found.query}" if found.query else "Packages"
    result = found.result
    if not result.ready:
        return waiting_page(title, found.query, result.fault)
    heading = ("Packages for ", tags.q(found.query)) if found.query else ("Packages",)
    body: list[Content] = [
        tags.h1(*heading),
        tags.p(f"Searched {result.count:,} packages of {result.source}", class_="soft")(
            "." if result.whole else ". The rest of it could not be evaluated.",
            f" The index could not be updated: {result.fault}." if result.fault else "",
        ),
        _images(found),
    ]
    if found.packages:
        body.append(tags.ul(*map(_entry, found.packages), class_="list"))
    else:
        body.append(tags.p("No package matches all of these words.", class_="empty"))
    if found.most <= len(found.packages) and found.most < found.limit:
        more = urlencode({"q": found.query, "n": found.limit})
        body.append(tags.p(tags.a("Show more", href=f"/packages?{more}", class_="button")))
    return Page(title, body, query=found.query)


def _images(found: SearchView) -> Content:
    """Images that were searched for, or what to do for one that is not there."""
    name = found.name
    if found.images:
        links = [part for each in found.images for part in (", ", image_link(each))]
        return tags.p("Images: ", *links[1:], class_="note")
    if name.fault or not (name.names_tag or len(name.words) > 1):
        return None
    named = f"/?{urlencode({'q': name.name.removesuffix(f':{LATEST}')})}"
    return tags.p("No such image is stored. ", class_="note")(tags.a("How to pull it", href=named))


def waiting_page(title: str, query: str, fault: str) -> Page:
    """The page while there is no index."""
    text = f"It could not be built: {fault}." if fault else "It is being built."
    body: list[Content] = [
        tags.h1("The package index"),
        tags.p(text, " This page reloads by itself."),
    ]
    return Page(title, body, query=query, refresh=_AGAIN)


def package_link(package: Package) -> Tag:
    """A link to a package's page."""
    return tags.a(tags.code(package.attribute), href=f"/packages/{quote(package.attribute)}")


def _entry(package: Package) -> Tag:
    programs = list(dict.fromkeys(filter(None, (package.program, *package.programs))))
    more = len(programs) - _PROGRAMS
    named = ", ".join(programs[:_PROGRAMS]) + (f" and {more} more" if more > 0 else "")
    state = "" if package.available else tags.span("not available", class_="badge queued")
    return tags.li(
        tags.div(package_link(package), tags.span(package.version, class_="soft"), state)(
            class_="entry"
        ),
        tags.p(cut(package.description, _LONGEST)) if package.description else "",
        tags.p("Programs: ", tags.code(named), class_="small soft") if programs else "",
    )
