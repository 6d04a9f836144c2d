"""The documents of an image."""

import json

import attrs
import pytest

from nixery.model.digest import Digest
from nixery.model.execution import Execution
from nixery.model.identity import Identity
from nixery.model.image import parse_image
from nixery.model.manifest import (
    CONFIG_TYPE,
    INDEX_TYPES,
    LEFT_OUT,
    MANIFEST_TYPE,
    Descriptor,
    Layer,
    config_bytes,
    make_index,
    make_manifest,
    parse_manifest,
)

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer(name: str) -> Layer:
    digest = Digest.of(name.encode())
    path = "/nix/store/" + "a" * 32 + f"-{name}"
    return Layer(Descriptor(GZIP, digest, len(name)), Digest.of(b"tar" + name.encode()), (path,))


LAYERS = [layer("one-1.0"), layer("two-2.0")]
IDENTITY = Identity("git", "7" * 40)
PLAIN = Execution({"PATH": "/bin"})
SHELL = Execution({"PATH": "/bin", "LANG": "C.UTF-8"}, command=("bash",))


def test_config() -> None:
    """A config says architecture, date, environment, command, and its layers in order."""
    config = json.loads(config_bytes(parse_image("arm64/shell/git", "x"), LAYERS, SHELL, IDENTITY))
    assert config["created"] == "1970-01-01T00:00:01Z"
    assert (config["architecture"], config["os"]) == ("arm64", "linux")
    assert config["config"]["Cmd"] == ["bash"]
    assert config["config"]["Env"] == ["PATH=/bin", "LANG=C.UTF-8"]
    assert config["rootfs"]["diff_ids"] == [str(layer.diff_id) for layer in LAYERS]
    assert len(config["history"]) == len(LAYERS)


def test_config_without() -> None:
    """Where no program suggests itself there is no command."""
    config = json.loads(config_bytes(parse_image("git", "x"), LAYERS, PLAIN, IDENTITY))["config"]
    assert "Cmd" not in config
    assert config["Env"] == ["PATH=/bin"]


def test_nothing_but_the_contents_counts() -> None:
    """Neither the tag nor the way a name is written enters a config's bytes."""
    one = config_bytes(parse_image("git/jq", "x"), LAYERS, SHELL, IDENTITY)
    assert one == config_bytes(parse_image("jq/git/jq", "y"), LAYERS, SHELL, IDENTITY)


def keys(document: object) -> set[str]:
    """All keys of a JSON document, at any depth."""
    if isinstance(document, dict):
        return set(document).union(*map(keys, document.values()))
    return set().union(*map(keys, document)) if isinstance(document, list) else set()


def test_nothing_else_is_in_the_documents() -> None:
    """Documents hold what the specification names, and contents and revision decide: no host, no
    tag, and no other time than a second after the epoch."""
    content = config_bytes(parse_image("shell/git", "v7"), LAYERS, SHELL, IDENTITY)
    config = json.loads(content)
    assert keys(config) == {
        *("created", "architecture", "os", "config", "Env", "Cmd", "rootfs", "type", "diff_ids"),
        *("history", "created_by"),
    }
    assert {entry["created"] for entry in config["history"]} == {config["created"]}
    assert b"v7" not in content
    manifest = make_manifest(Descriptor(CONFIG_TYPE, Digest.of(b"c"), 1), LAYERS)
    assert keys(json.loads(manifest.content)) == {
        *("schemaVersion", "mediaType", "config", "layers", "size", "digest"),
    }


def test_labels_are_annotations() -> None:
    """The labels that the specification has names for are in the manifest, too; others are not."""
    named = {"org.opencontainers.image.title": "git"}
    config = Descriptor(CONFIG_TYPE, Digest.of(b"c"), 1)
    manifest = make_manifest(config, LAYERS, {**named, "org.example.team": "web"})
    assert json.loads(manifest.content)["annotations"] == named
    assert parse_manifest(manifest.content) == manifest


def test_the_date_is_the_images() -> None:
    """An image may have its revision's date; what its layers hold has none, and says so."""
    dated = Identity("git", "7" * 40, created=1_700_000_000)
    config = json.loads(config_bytes(parse_image("git", "x"), LAYERS, PLAIN, dated))
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert {entry["created"] for entry in config["history"]} == {"1970-01-01T00:00:01Z"}


def test_bytes_are_canonical() -> None:
    """Keys are sorted, and there is no white space: one document has one way to be written."""
    manifest = make_manifest(Descriptor(CONFIG_TYPE, Digest.of(b"c"), 1), LAYERS)
    for content in (
        config_bytes(parse_image("git", "x"), LAYERS, SHELL, IDENTITY),
        manifest.content,
    ):
        again = json.dumps(json.loads(content), sort_keys=True, separators=(",", ":"))
        assert again.encode() == content


def test_history_is_short() -> None:
    """A layer of many store paths names some of them and counts the rest, in whatever order they
    are given."""
    one = LAYERS[0]
    paths = [f"/nix/store/{'a' * 32}-p{n:03}" for n in range(100)]
    shown = []
    for order in (paths, paths[::-1]):
        layers = [Layer(one.descriptor, one.diff_id, tuple(order))]
        config = json.loads(config_bytes(parse_image("git", "x"), layers, SHELL, IDENTITY))
        shown.append(config["history"][0]["created_by"])
    assert shown[0] == shown[1]
    assert "p000" in shown[0]
    assert shown[0].endswith(" and 92 more")


def test_manifest() -> None:
    """A manifest is read again as it was made, and is known by the digest of its bytes."""
    manifest = make_manifest(Descriptor(CONFIG_TYPE, Digest.of(b"c"), 1), LAYERS)
    assert parse_manifest(manifest.content) == manifest
    assert manifest.digest == Digest.of(manifest.content)
    assert json.loads(manifest.content)["mediaType"] == manifest.media_type == MANIFEST_TYPE


def test_index() -> None:
    """An index names its manifests with their platforms, in order; a docker manifest list too."""
    one, other = (
        make_manifest(Descriptor(CONFIG_TYPE, Digest.of(c), 1), LAYERS) for c in (b"a", b"b")
    )
    for kind in INDEX_TYPES:
        index = make_index({"linux/arm64": other, "linux/amd64": one}, {}, kind)
        document = json.loads(index.content)
        listed = [
            (each["platform"]["architecture"], each["digest"]) for each in document["manifests"]
        ]
        assert listed == [("amd64", str(one.digest)), ("arm64", str(other.digest))]
        assert "annotations" not in document
        assert document["mediaType"] == index.media_type == kind
        assert parse_manifest(index.content) == attrs.evolve(index, children=())
        assert index.children == (one, other)


def test_parts() -> None:
    """All that a manifest or an index leads to, itself included."""
    manifest = make_manifest(Descriptor(CONFIG_TYPE, Digest.of(b"c"), 1), LAYERS)
    index = make_index({"linux/arm64": manifest}, {})
    own = Descriptor(manifest.media_type, manifest.digest, len(manifest.content))
    assert manifest.parts == (own, *manifest.blobs)
    own = Descriptor(index.media_type, index.digest, len(index.content))
    assert index.parts == (own, *manifest.parts)
    assert [each.is_index for each in (index, manifest)] == [True, False]


def test_platforms_that_are_left_out() -> None:
    """An index says which, and why; otherwise it says of itself what its first image does."""
    named = {"org.opencontainers.image.title": "git"}
    manifest = make_manifest(Descriptor(CONFIG_TYPE, Digest.of(b"c"), 1), LAYERS, named)
    index = make_index({"linux/amd64": manifest}, {"linux/arm64": "there is none"})
    annotations = json.loads(index.content)["annotations"]
    assert annotations == {**named, LEFT_OUT: "linux/arm64: there is none"}


def test_what_is_no_manifest() -> None:
    """A config, other JSON, and anything else is no manifest."""
    config = config_bytes(parse_image("git", "x"), LAYERS, SHELL, IDENTITY)
    broken = json.dumps({"mediaType": MANIFEST_TYPE, "config": {}, "layers": []}).encode()
    deep = b"[" * 100_000
    index = json.dumps({"mediaType": INDEX_TYPES[0], "manifests": [{}]}).encode()
    for content in (config, b"", b"{}", b"[]", b"\xff", b"null", broken, index, deep):
        assert parse_manifest(content) is None


@pytest.mark.parametrize("annotations", [[], "x", {"org.opencontainers.image.revision": 1}, None])
def test_annotations_of_others(annotations: object) -> None:
    """What another registry's manifest has for annotations is read as far as it is text."""
    made = make_manifest(layer("a").descriptor, [layer("b")])
    document = {**json.loads(made.content), "annotations": annotations}
    other = parse_manifest(json.dumps(document).encode())
    assert other is not None
    assert other.annotation("revision") == ""
