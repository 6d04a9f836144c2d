"""The page of an image: what it is, how to use it, and what is in it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import attrs
from twisted.web.template import Tag, tags

from nixery.model.image_summary import ImageSummary
from nixery.model.manifest import Descriptor
from nixery.model.text import cut, readable
from nixery.web.pages.closure_section import Closure, closure_section
from nixery.web.pages.fragments import age, facts, platform_links, query_of, size, table
from nixery.web.pages.layers_section import Sharing, layers_section
from nixery.web.pages.page import Content, Page
from nixery.web.pages.usage import Usage, usage_tabs
from nixery.web.referrers import PUBLIC_KEYS
from nixery.web.stored_images import StoredImage

_TAGS = 12  # that are named
_PACKAGES = 30  # that are shown
_VALUE = 160  # characters of a variable, or a description


@attrs.frozen(eq=False)
class ImageView:
    """The contents of an image's page.

    :param host: of the registry, as the client names it.
    :param over_http: whether the client asked without TLS.
    :param closure: of the image; none if an older version made it.
    :param sharing: of its layers with other images that the client may see.
    :param tags: the tags of images of this name, with their images.
    :param build: the ID of the build that made it; empty if it is remembered no more.
    :param why: the store path that is to be explained; empty for one that tells much.
    :param signed: whether the registry signs its images.
    """

    host: str
    over_http: bool
    image: StoredImage
    closure: Closure | None
    sharing: Sharing
    tags: Mapping[str, ImageSummary]
    build: str = ""
    why: str = ""
    signed: bool = False

    @property
    def layers(self) -> Sequence[Descriptor]:
        """The layers, the lowest first."""
        return self.image.manifest.blobs[1:]

    @property
    def total(self) -> int:
        """The bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def reference(self) -> str:
        """Host, name, and tag or digest."""
        return f"{self.host}/{self.image.label.removesuffix(':latest')}"

    @property
    def pinned(self) -> str:
        """A reference that means this image for ever."""
        return f"{self.host}/{self.image.summary.name}@{self.image.summary.digest}"

    @property
    def usage(self) -> Usage:
        """The commands that this image can run: its own, or its programs by their names."""
        contents, run = self.image.contents, self.image.run
        has_command = bool(run.get("Entrypoint") or run.get("Cmd"))
        programs = contents.programs if contents is not None else ()
        tools = contents.tools if contents is not None else ()
        return Usage(
            self.reference,
            [""] if has_command else [f" {shlex.quote(program)}" for program in programs],
            "sleep" in tools,
            next((tool for tool in ("bash", "sh") if tool in tools), ""),
            self.over_http,
            self.pinned,
        )

    @property
    def packages(self) -> list[tuple[str, str, str]]:
        """The name, version and description of each package."""
        contents = self.image.contents
        return [
            (readable(each.package), readable(each.version), readable(each.description))
            for each in (contents.packages if contents is not None else ())
        ]


def image_page(view: ImageView) -> Page:
    """The page for browsers."""
    image, contents = view.image, view.image.contents
    body: list[Content] = [
        tags.section(
            tags.h1(tags.code(readable(image.label))),
            tags.p(*_made(view), class_="lead"),
            class_="stack",
        ),
        tags.div(
            tags.section(tags.h2("Use it"), usage_tabs(view.usage), class_="card"),
            tags.section(tags.h2("Details"), _facts(view)),
            class_="columns",
        ),
    ]
    if view.closure is not None:
        body += closure_section(view.closure, view.why, image.platform)
        body.append(tags.section(tags.h2("Packages"), _packages(view)))
    else:
        text = "An older version of Nixery made this image, and kept no record of what is in it."
        body.append(tags.p(text, class_="note"))
    body.append(layers_section(view.layers, contents, view.sharing, image.platform))
    body.append(tags.div(_documents(view), _comparison(view), class_="columns"))
    return Page(f"{image.label}: a Nixery image", body)


def image_text(view: ImageView) -> str:
    """The page for terminals."""
    docker = view.usage.engine("docker")
    lines = [
        readable(view.image.label),
        "",
        *(f"    {text}" for _, text in docker[:1]),
        f"    docker pull {view.pinned}",
        *(f"    {text}" for _, text in docker[1:]),
        "",
        f"Layers:  {len(view.layers)}, {size(view.total)} to pull",
    ]
    if view.closure is not None:
        count = len(view.closure.contents.paths)
        lines += [f"Closure: {count} store paths, {size(view.closure.size)}"]
    if view.signed:
        scheme = "http" if view.over_http else "https"
        lines += [f"Signed:  the public key is at {scheme}://{view.host}{PUBLIC_KEYS}"]
    if view.packages:
        lines += ["", "Packages:", ""]
        lines += [
            f"    {cut(name, 30):30} {cut(version, 12):12} {cut(about, 30)}".rstrip()
            for name, version, about in view.packages
        ]
    return "\n".join([*lines, ""])


# --- its parts ----------------------------------------------------------------------------


def _made(view: ImageView) -> list[Tag | str]:
    summary = view.image.summary
    parts: list[Tag | str] = []
    if summary.made:
        when = f"Made {age(summary.made)}"
        parts += [tags.a(when, href=f"/builds/{view.build}") if view.build else when, "; "]
    pulls = f"pulled {summary.pulls} times" if summary.pulls > 1 else "pulled once"
    parts.append(f"{size(view.total)} to pull" + (f", {pulls}" if summary.pulls else ""))
    return [*parts, "."]


def _facts(view: ImageView) -> Tag:
    image, run = view.image, view.image.run
    summary = image.summary
    return facts(
        [
            ("Digest", tags.code(summary.digest)),
            ("Platforms", platform_links(image.every_platform, image.platform)),
            ("Source", readable(summary.source)),
            ("Revision", tags.code(readable(summary.revision)) if summary.revision else ""),
            ("Tags", _tags(view)),
            ("Entry point", _program(run.get("Entrypoint"))),
            ("Command", _program(run.get("Cmd"))),
            ("User", readable(str(run.get("User") or "root"))),
            ("Directory", readable(str(run.get("WorkingDir") or ""))),
            ("Ports", readable(", ".join(_keys(run.get("ExposedPorts"))))),
            ("Volumes", readable(", ".join(_keys(run.get("Volumes"))))),
            ("Environment", _environment(run.get("Env"))),
        ]
    )


def _tags(view: ImageView) -> Tag | str:
    own = view.image.summary.digest
    names = [tag for tag, image in view.tags.items() if image.digest == own]
    others = [tag for tag, image in view.tags.items() if image.digest != own]
    parts: list[Tag | str] = []
    for tag in [*names, *others][:_TAGS]:
        link = tags.a(readable(tag), href=f"/images/{view.image.summary.name}:{tag}")
        parts += [", ", link, "" if tag in names else " (another image)"]
    return tags.span(*parts[1:]) if parts else ""


def _program(words: Any) -> Tag | str:
    return (
        tags.code(readable(shlex.join(map(str, words))))
        if isinstance(words, list) and words
        else ""
    )


def _keys(named: Any) -> list[str]:
    return sorted(map(str, named)) if isinstance(named, dict) else []


def _environment(variables: Any) -> Tag | str:
    if not isinstance(variables, list) or not variables:
        return ""
    lines = [readable(cut(str(each), _VALUE)) for each in variables]
    title = f"{len(lines)} variable{'s' if len(lines) > 1 else ''}"
    text = tags.pre(tags.code("\n".join(lines)), class_="listing")
    return tags.details(tags.summary(title), text)


def _packages(view: ImageView) -> Tag:
    rows = [
        (
            tags.div(
                tags.a(tags.code(name), href=f"/packages/{quote(name)}"),
                tags.small(cut(about, _VALUE)),
                class_="titled",
            ),
            version,
        )
        for name, version, about in view.packages[:_PACKAGES]
    ]
    rest = len(view.packages) - _PACKAGES
    more = tags.p(
        f"{rest} more are not shown; opened from a terminal, this page lists them all.",
        class_="small soft",
    )
    return tags.div(table("Packages", ("Package", "Version"), rows), more if rest > 0 else "")


def _documents(view: ImageView) -> Tag:
    name, manifest = view.image.summary.name, view.image.manifest
    own, platform = f"/images/{view.image.label}", view.image.platform

    def document(name: str, form: str = "") -> str:
        return f"{own}/{name}{query_of(format=form, platform=platform)}".rstrip("?")

    links = [
        ("Manifest", f"/v2/{name}/manifests/{manifest.digest}"),
        ("Configuration", f"/v2/{name}/blobs/{manifest.blobs[0].digest}"),
    ]
    if view.image.contents is not None:
        links += [
            ("Bill of materials, SPDX", document("sbom", "spdx")),
            ("Bill of materials, CycloneDX", document("sbom", "cyclonedx")),
            ("Provenance, SLSA", document("provenance")),
        ]
    if view.signed:
        links.append(("Public key", PUBLIC_KEYS))
    items = [tags.li(tags.a(text, href=target)) for text, target in links]
    said = "This registry signs its images, and these documents" if view.signed else "Not signed"
    more: list[Tag | str] = [
        *(tags.a("What they say", href="/docs/attestations"), f". {said}: "),
        tags.a("how to verify an image" if view.signed else "how to sign", href="/docs/signatures"),
    ]
    return tags.section(
        tags.h2("Documents"), tags.ul(*items, class_="list"), tags.p(*more, "."), id="documents"
    )


def _comparison(view: ImageView) -> Tag:
    label, platform = view.image.label, view.image.platform
    own = view.image.summary.digest
    others = [tag for tag, image in view.tags.items() if image.digest != own][:_TAGS]
    name = view.image.summary.name
    field = tags.input(type="text", name="to", id="compare-to", list="tags", placeholder=label)
    form = tags.form(
        tags.input(type="hidden", name="from", value=label),
        tags.input(type="hidden", name="platform", value=platform) if platform else "",
        tags.label("Another tag or name", for_="compare-to", class_="label"),
        tags.div(
            field(autocomplete="off", spellcheck="false", required=""),
            tags.button("Compare", type="submit"),
            class_="ask",
        ),
        tags.datalist(*[tags.option(value=f"{name}:{tag}") for tag in others], id="tags"),
        action="/compare",
    )
    text = "Packages added, removed or upgraded, and how much there is to pull."
    return tags.section(tags.h2("Compare"), tags.p(text, class_="soft"), form)
