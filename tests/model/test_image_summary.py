"""The summaries of images that are stored."""

import json

import attrs
import pytest

from nixery.model.digest import Digest
from nixery.model.image import parse_image
from nixery.model.image_summary import ImageSummary, summary_of
from nixery.model.manifest import (
    CONFIG_TYPE,
    INDEX_TYPES,
    Descriptor,
    Layer,
    make_index,
    make_manifest,
)

CONFIG = Descriptor(CONFIG_TYPE, Digest.of(b"config"), 6)
LAYER = Layer(Descriptor("gzip", Digest.of(b"layer"), 5), Digest.of(b"tar"), ())
TITLE = {"org.opencontainers.image.title": "shell/git"}


def test_what_was_asked_for() -> None:
    """An image that was asked for has its shortest name, its tag and its platform; its size is that
    of all that a client loads."""
    manifest = make_manifest(CONFIG, [LAYER], TITLE)
    image = parse_image("arm64/shell/git", "v1")
    summary = summary_of(manifest, image, "git:x", "abc", made=12.5)
    assert summary.name == "shell/arm64/git"
    assert (summary.tags, summary.tag) == (("v1",), "v1")
    assert summary.platforms == ("linux/arm64",)
    assert (summary.source, summary.revision, summary.made) == ("git:x", "abc", 12.5)
    assert summary.size == len(manifest.content) + 6 + 5
    assert summary.blobs == CONFIG.digest.hex[:8] + LAYER.descriptor.digest.hex[:8]


@pytest.mark.parametrize(
    ("config", "platforms"),
    [
        (b'{"os": "linux", "architecture": "arm64"}', ("linux/arm64",)),
        *((each, ()) for each in (b"", b"[]", b"{}", b'{"os": "linux"}')),
    ],
)
def test_what_documents_tell(config: bytes, platforms: tuple[str, ...]) -> None:
    """Of an image of an older version, its own documents tell name and platform, as far as they
    do."""
    summary = summary_of(make_manifest(CONFIG, [LAYER], TITLE), config=config)
    assert (summary.name, summary.tags, summary.platforms) == ("shell/git", (), platforms)
    for labels in ({}, dict.fromkeys(TITLE, "My service"), dict.fromkeys(TITLE, "arm64")):
        assert summary_of(make_manifest(CONFIG, [LAYER], labels)).name == ""


def test_index() -> None:
    """An index has the platforms and the blobs of its manifests."""
    one, other = make_manifest(CONFIG, [LAYER], TITLE), make_manifest(CONFIG, [])
    for kind in INDEX_TYPES:
        index = make_index({"linux/amd64": one, "linux/arm64": other}, {}, kind)
        summary = summary_of(index)
        assert (summary.name, summary.platforms) == ("shell/git", ("linux/amd64", "linux/arm64"))
        assert summary.size == sum(map(len, (index.content, one.content, other.content))) + 17
        assert one.digest.hex[:8] + CONFIG.digest.hex[:8] in summary.blobs


def test_what_a_name_stands_for() -> None:
    """An index, and not an image of it, whichever of them was pulled last; of two revisions, the
    one that was."""
    index = ImageSummary("i", platforms=("linux/amd64", "linux/arm64"), revision="1", pulled=1)
    image = ImageSummary("c", platforms=("linux/amd64",), revision="1", pulled=2)
    assert index.supersedes(image)
    assert not image.supersedes(index)
    assert attrs.evolve(image, revision="2").supersedes(index)
    assert not index.supersedes(attrs.evolve(image, revision="2"))
    assert not attrs.evolve(image, pulled=1).supersedes(image)
    assert image.supersedes(image)


def test_tags() -> None:
    """The tag by which an image was asked for last is the last one; few are kept."""
    summary = ImageSummary("sha256:1", tags=("a", "b"))
    assert summary.tagged("a").tags == ("b", "a")
    assert summary.tagged("") == summary.tagged("b") == summary
    for number in range(50):
        summary = summary.tagged(str(number))
    assert summary.tags == tuple(map(str, range(30, 50)))
    assert ImageSummary("sha256:1").tag == "latest"


def test_documents() -> None:
    """A summary comes back from JSON as it was, and nothing of another form does."""
    image = parse_image("git", "v1")
    summary = summary_of(make_manifest(CONFIG, [LAYER]), image, "git:x", "abc", made=1.5)
    assert ImageSummary(**json.loads(json.dumps(summary.document()))) == summary
    for wrong in ({"digest": 1}, {"digest": "x", "tags": [1]}, {"digest": "x", "name": None}):
        with pytest.raises(TypeError):
            ImageSummary(**wrong)
