"""Summaries of images that are stored: small, since all of them are in memory."""

import json
from collections.abc import Sequence
from sys import intern
from typing import Any

import attrs

from nixery.model.identity import LABELS
from nixery.model.image import Image, parse_image
from nixery.model.manifest import Manifest
from nixery.model.pull_counts import PullCount
from nixery.model.request_errors import ImageInvalid, NameInvalid
from nixery.model.tags import LATEST

PREFIX = 8
"""Hexadecimal digits of a blob's digest that are kept: enough to tell most of them apart."""
_MOST_TAGS = 20
_TITLE = f"{LABELS}title"


def _texts(texts: Sequence[Any]) -> tuple[str, ...]:
    return tuple(_text(text) for text in texts)


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is not a text")
    return intern(text)  # thousands of images have one source and revision


@attrs.frozen
class ImageSummary:
    """An image that is stored.

    :param digest: of its manifest, or index.
    :param name: the shortest one that asks for it; empty if it is of a version that did not say.
    :param tags: by which it was asked for, the latest last, as far as known.
    :param platforms: as ``linux/amd64``.
    :param source: the package source's name.
    :param revision: of the package source.
    :param size: bytes of its blobs, as they are stored and pulled.
    :param made: when, in seconds since the epoch; 0 if that is not known.
    :param blobs: prefixes of the digests of its blobs, one after the other.
    :param pulls: how often its manifest was sent, as far as known.
    :param pulled: when that was last, in seconds since the epoch; 0 for never.
    :raises TypeError: if one of them is of another type.
    """

    digest: str = attrs.field(converter=_text)
    name: str = attrs.field(default="", converter=_text)
    tags: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    platforms: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    source: str = attrs.field(default="", converter=_text)
    revision: str = attrs.field(default="", converter=_text)
    size: int = attrs.field(default=0, converter=int)
    made: float = attrs.field(default=0.0, converter=float)
    blobs: str = attrs.field(default="", repr=False)
    pulls: int = attrs.field(default=0, converter=int)
    pulled: float = attrs.field(default=0.0, converter=float)

    @property
    def tag(self) -> str:
        """The tag by which it was asked for last."""
        return self.tags[-1] if self.tags else LATEST

    @property
    def used(self) -> float:
        """When it was made, or pulled last, in seconds since the epoch."""
        return max(self.made, self.pulled)

    def supersedes(self, other: "ImageSummary") -> bool:
        """Whether this is what a name stands for, rather than another that it stood for: an index
        and not an image of it, which is pulled when the index is; otherwise what was used last."""
        if (self.source, self.revision) == (other.source, other.revision):
            more = len(self.platforms) - len(other.platforms)
            return more > 0 or (more == 0 and self.used >= other.used)
        return self.used >= other.used

    def tagged(self, tag: str) -> "ImageSummary":
        """The same image, asked for by a tag last."""
        if not tag or self.tags[-1:] == (tag,):
            return self
        others = tuple(each for each in self.tags if each != tag)
        return attrs.evolve(self, tags=(*others, tag)[-_MOST_TAGS:])

    def counted(self, count: PullCount) -> "ImageSummary":
        """The same image, pulled so often."""
        return attrs.evolve(self, pulls=count.pulls, pulled=count.pulled).tagged(count.tag)

    def document(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return attrs.asdict(self)


def summary_of(
    manifest: Manifest,
    image: Image | None = None,
    source: str = "",
    revision: str = "",
    made: float = 0.0,
    config: bytes = b"",
) -> ImageSummary:
    """Summarise an image.

    :param image: what was asked for; without it, the manifest tells the name if it has one.
    :param config: the image's, which tells the platform if ``image`` does not.
    """
    document, parts = json.loads(manifest.content), manifest.parts
    if manifest.is_index:
        described = [each.get("platform", {}) for each in document["manifests"]]
    elif image is not None:
        described = [{"os": "linux", "architecture": image.architecture}]
    else:
        described = [_document(config)]
    return ImageSummary(
        digest=str(manifest.digest),
        name=image.name if image is not None else _titled(document),
        tags=(image.tag,) if image is not None else (),
        platforms=[f"{each['os']}/{each['architecture']}" for each in described if "os" in each],
        source=source,
        revision=revision,
        size=sum(part.size for part in parts),
        made=made,
        blobs="".join(part.digest.hex[:PREFIX] for part in parts[1:]),
    )


def _titled(manifest: dict[str, Any]) -> str:
    """The name that a manifest has as its title; empty for what a package has put there instead."""
    try:
        return parse_image(manifest.get("annotations", {}).get(_TITLE, ""), LATEST).name
    except (NameInvalid, ImageInvalid):
        return ""


def _document(config: bytes) -> dict[str, Any]:
    try:
        document = json.loads(config)
    except ValueError:
        return {}
    return document if isinstance(document, dict) and "architecture" in document else {}
