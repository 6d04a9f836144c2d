"""The page of a package: what the set says of it, and the images that hold it."""

from collections.abc import Sequence

import attrs
from twisted.web.template import Tag, tags

from nixery.model.closure import Graph, closure_size
from nixery.model.contents import Contents, PackageFacts
from nixery.model.image_summary import ImageSummary
from nixery.model.package_set import Package
from nixery.model.text import cut, readable
from nixery.web.pages.fragments import age, facts, image_link, measure, table
from nixery.web.pages.page import Content, Page
from nixery.web.pages.usage import Usage, usage_tabs

_PROGRAMS = 60  # that are named
_LONGEST = 2000  # characters of a description
_IMAGES = 20  # that are listed
_SHORT = 12  # digits of a revision


@attrs.frozen(eq=False)
class Held:
    """A package as it is in an image.

    :param facts: of the package.
    :param size: bytes of it with all that it needs.
    """

    image: ImageSummary
    facts: PackageFacts
    size: int

    @classmethod
    def of(cls, image: ImageSummary, contents: Contents, name: str) -> "Held | None":
        """Look for a package in an image.

        :param name: as images write it, or its attribute path.
        """
        found = (each for each in contents.packages if each.package.lower() == name.lower())
        package = next(found, None)
        if package is None:
            return None
        graph: Graph = {
            each.path: {"size": each.size, "references": each.references} for each in contents.paths
        }
        return cls(image, package, closure_size(graph, *package.paths)[1])


@attrs.frozen(eq=False)
class PackageView:
    """The contents of a package's page.

    :param name: its attribute path.
    :param package: as the index has it; none if it is in images alone.
    :param held: the images that were looked into, those used last first.
    :param others: how many more images contain it.
    """

    host: str
    over_http: bool
    name: str
    package: Package | None
    held: Sequence[Held]
    others: int

    @property
    def image(self) -> str:
        """The name that asks for it; empty if none can."""
        return self.package.image if self.package is not None else self.name.lower()

    @property
    def latest(self) -> PackageFacts:
        """The package as the image has it that was used last."""
        return self.held[0].facts if self.held else PackageFacts(self.name, ())


def package_page(view: PackageView) -> Page:
    """The page for browsers."""
    package, latest = view.package, view.latest
    version = package.version if package is not None else latest.version
    about = package.description if package is not None else latest.description
    used: Content = None
    if view.image:
        usage = Usage(f"{view.host}/{view.image}", over_http=view.over_http)
        used = tags.section(tags.h2("Use it"), usage_tabs(usage), class_="card")
    else:
        used = tags.p("It can't be part of an image's name: see ", class_="note")(
            tags.a("names", href="/docs/names"), "."
        )
    body: list[Content] = [
        tags.section(
            tags.h1(tags.code(readable(view.name)), " ", tags.span(readable(version))),
            tags.p(readable(cut(about, _LONGEST)), class_="lead") if about else "",
            class_="stack",
        ),
        tags.div(used, tags.section(tags.h2("Details"), _facts(view)), class_="columns"),
        _versions(view),
        _images(view),
    ]
    return Page(f"{view.name}: a package", body)


def package_text(view: PackageView) -> str:
    """The page for terminals."""
    package = view.package or Package(tuple(view.name.split(".")))
    version, about = package.version or view.latest.version, package.description
    lines = [f"{view.name} {version}".rstrip(), ""]
    lines += [cut(about or view.latest.description, _LONGEST), ""]
    if view.image:
        lines += [f"    docker pull {view.host}/{view.image}", ""]
    lines += [f"Images: {_label(each.image)}  {each.facts.version}" for each in view.held]
    return "\n".join(map(readable, lines)) + "\n"


def _facts(view: PackageView) -> Tag:
    package = view.package or Package(())
    latest = view.latest
    programs = list(dict.fromkeys(filter(None, (package.program, *package.programs))))
    more = len(programs) - _PROGRAMS
    named = ", ".join(programs[:_PROGRAMS]) + (f" and {more} more" if more > 0 else "")
    return facts(
        [
            ("Name", tags.code(view.image) if view.image else ""),
            ("Homepage", _homepage(package.homepage or latest.homepage)),
            ("Licence", readable(", ".join(package.licences or latest.licences))),
            ("Outputs", ", ".join(package.outputs)),
            ("Programs", tags.code(named) if programs else ""),
            ("Closure size", measure(view.held[0].size) if view.held else ""),
            ("Available", "" if package.available else "no: the set marks it as unavailable"),
        ]
    )


def _homepage(address: str) -> Tag | str:
    if not address.startswith(("http://", "https://")):
        return ""
    return tags.a(readable(address), href=address, rel="nofollow noreferrer")


def _versions(view: PackageView) -> Content:
    """The versions of it in the images of several tags, the one used last first."""
    known: dict[str, list[Held]] = {}
    for each in view.held:
        known.setdefault(each.facts.version, []).append(each)
    if not view.held:
        return None
    rows = []
    for version, held in known.items():
        named = dict.fromkeys(tag for each in held for tag in each.image.tags)
        revisions = dict.fromkeys(each.image.revision[:_SHORT] for each in held)
        rows.append(
            (
                readable(version) or "none",
                readable(", ".join(list(named)[:8])),
                tags.code(readable(", ".join(list(revisions)[:3]))),
                measure(held[0].size),
            )
        )
    columns = ("Version", "Tags", "Revisions", "Size")
    return tags.section(tags.h2("Versions"), table("Versions", columns, rows))


def _images(view: PackageView) -> Content:
    rows = [
        (
            image_link(each.image),
            readable(each.facts.version),
            measure(each.image.size),
            age(each.image.used) if each.image.used else "",
        )
        for each in view.held[:_IMAGES]
    ]
    if not rows:
        return tags.p("No stored image contains it.", class_="empty")
    rest = view.others + len(view.held) - len(rows)
    more = tags.p(f"{rest} more images contain it.", class_="small soft") if rest else ""
    columns = ("Image", "Version", "To pull", "Used")
    shown = table("Images that contain it", columns, rows)
    return tags.section(tags.h2("Images that contain it"), shown, more)


def _label(image: ImageSummary) -> str:
    return f"{image.name}:{image.tag}"
