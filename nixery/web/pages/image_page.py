"""The page of an image: what is in it, and how to use it."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

import attrs
from twisted.web.template import Tag, tags

from nixery.history.summary import BuildHead
from nixery.model.manifest import Descriptor, Manifest
from nixery.model.text import readable
from nixery.web.pages.fragments import age, build_link, command, size, table
from nixery.web.pages.page import Content, Page


@attrs.frozen
class ImageView:
    """The contents of an image's page.

    :param head: the latest build of it that was done.
    :param details: of that build: see :class:`nixery.history.summary.Summary`.
    :param others: layer → how many other recent images have it.
    """

    host: str
    head: BuildHead
    manifest: Manifest
    details: Mapping[str, Any]
    others: Mapping[str, int]

    @property
    def layers(self) -> Sequence[Descriptor]:
        """The layers, the lowest first."""
        return self.manifest.blobs[1:]

    @property
    def total(self) -> int:
        """The bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def shared(self) -> int:
        """The bytes of the layers that other images have too."""
        return sum(layer.size for layer in self.layers if self.others.get(str(layer.digest)))

    @property
    def pinned(self) -> str:
        """A reference that means this image for ever."""
        return f"{self.host}/{self.head.name}@{self.manifest.digest}"

    def runs(self, reference: str) -> list[str]:
        """The commands that run the image: as it is, or its programs by their names."""
        ways = [""] if self.has_command else [f" {quote(p)}" for p in self._known("programs")]
        return [readable(f"docker run --rm -ti {reference}{way}") for way in ways]

    def pods(self) -> list[str]:
        """Containers of a pod that go on, where the image has something that does."""
        lines = ["containers:", "  - name: tools", f"    image: {self.pinned}"]
        if "sleep" in self._known("tools"):
            return ["\n".join([*lines, "    command: [sleep, infinity]"])]
        return ["\n".join(lines)] if self.has_command else []

    def debugs(self, reference: str) -> list[str]:
        """The command that has a shell of the image look into a pod, where it has one."""
        shells = [tool for tool in self._known("tools") if tool in ("bash", "sh")]
        return [f"kubectl debug -ti POD --image={reference} -- {shell}" for shell in shells[:1]]

    @property
    def has_command(self) -> bool:
        """Whether containers of it start something without being told."""
        return bool(self._known("entrypoint") or self._known("command"))

    def _known(self, fact: str) -> list[str]:
        furnished = self.details.get("furnished") or {}
        return [str(each) for each in furnished.get(fact, ())]

    @property
    def packages(self) -> list[tuple[str, str, str]]:
        """Attribute path, name with version, and size with dependencies, if known, of each
        package."""
        return [
            (
                readable(str(package["attribute"])),
                readable(str(package["name"])),
                size(package["closure"]["size"]) if "closure" in package else "",
            )
            for package in self.details.get("packages", [])
        ]


def image_page(view: ImageView) -> Page:
    """The page for browsers."""
    name = f"{view.head.name}:{view.head.tag}"
    reference = f"{view.host}/{name}"
    config = view.manifest.blobs[0].digest
    at = f"/v2/{view.head.name}"
    body: list[Content] = [
        tags.h1(tags.code(readable(name))),
        tags.p(
            f"Made {age(view.head.ended or view.head.started)}; ",
            build_link(view.head, "its build"),
        ),
        tags.h2("Use it"),
        *_uses(view, reference),
        tags.h2("Contents"),
        _contents(view),
        tags.h2("Layers"),
        *_layers(view),
        tags.h2("Documents"),
        tags.ul(
            tags.li(tags.a("The manifest", href=f"{at}/manifests/{view.manifest.digest}")),
            tags.li(tags.a("The configuration", href=f"{at}/blobs/{config}")),
        ),
    ]
    return Page(f"{name}: an image of Nixery", body)


def image_text(view: ImageView) -> str:
    """The page for terminals."""
    closure = view.details.get("closure") or {}
    name = f"{view.head.name}:{view.head.tag}"
    lines = [
        f"{readable(view.head.name)}:{readable(view.head.tag)}",
        "",
        f"    docker pull {view.host}/{name}",
        f"    docker pull {view.pinned}",
        *(f"    {run}" for run in view.runs(f"{view.host}/{name}")),
        "",
        f"Layers:  {len(view.layers)}, {size(view.total)}; {size(view.shared)} of it shared "
        "with other images here",
    ]
    if closure:
        lines += [f"Closure: {closure['paths']} store paths, {size(closure['size'])}"]
    if view.packages:
        lines += ["", "Packages:", ""]
        lines += [
            f"    {what[:40]:40} {needs:>8}  {name[:24]}".rstrip()
            for name, what, needs in view.packages
        ]
    return "\n".join([*lines, ""])


def _uses(view: ImageView, reference: str) -> list[Tag]:
    uses = [
        ("Pull it", [f"docker pull {reference}"]),
        ("Run it", view.runs(reference)),
        ("Build on it", [f"FROM {view.pinned}"]),
        ("Kubernetes", view.pods()),
        ("Debug a pod", view.debugs(reference)),
    ]
    parts: list[Tag] = []
    for title, texts in uses:
        if texts:
            parts += [tags.h3(title), *(command(text, title) for text in texts)]
    return parts


def _contents(view: ImageView) -> Tag:
    if not view.packages:
        return tags.p("Its packages are no longer remembered; the manifest lists its layers.")
    closure = view.details.get("closure") or {}
    text = ""
    if closure:
        text = f"With all dependencies: {closure['paths']} store paths, {size(closure['size'])}."
    rows = [(tags.code(name), what, needs) for name, what, needs in view.packages]
    columns = ("Package", "Version", "Size with dependencies")
    return tags.div(table("Packages", columns, rows), tags.p(text))


def _layers(view: ImageView) -> list[Tag]:
    text = (
        f"{len(view.layers)} layers, {size(view.total)} to load; {size(view.shared)} of it "
        "in layers that other recent images share."
    )
    rows = []
    for number, layer in enumerate(view.layers, 1):
        others = view.others.get(str(layer.digest), 0)
        share = tags.meter(
            size(layer.size),
            min="0",
            max=str(max(1, *(each.size for each in view.layers))),
            value=str(layer.size),
            class_="shared" if others else "own",
            **{"aria-label": f"layer {number}: {size(layer.size)}"},
        )
        shared = f"shared with {others}" if others else "not shared"
        digest = tags.code(str(layer.digest)[7:19])
        rows.append((str(number), tags.span(share, " ", size(layer.size)), shared, digest))
    columns = ("Layer", "Size", "Other images", "Digest")
    return [tags.p(text), table("Layers, the lowest first", columns, rows)]
