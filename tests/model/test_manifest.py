"""The documents of an image."""

import json

from nixery.model.digest import Digest
from nixery.model.image import parse_image
from nixery.model.manifest import (
    CONFIG_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Layer,
    config_bytes,
    make_manifest,
    parse_manifest,
)

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer(name: str) -> Layer:
    digest = Digest.of(name.encode())
    path = "/nix/store/" + "a" * 32 + f"-{name}"
    return Layer(Descriptor(GZIP, digest, len(name)), Digest.of(b"tar" + name.encode()), (path,))


LAYERS = [layer("one-1.0"), layer("two-2.0")]


def test_config() -> None:
    """A config says architecture, date, environment, command, and its layers in order."""
    config = json.loads(config_bytes(parse_image("arm64/shell/git", "x"), LAYERS, True))
    assert config["created"] == "1970-01-01T00:00:01Z"
    assert (config["architecture"], config["os"]) == ("arm64", "linux")
    assert config["config"]["Cmd"] == ["bash"]
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt" in config["config"]["Env"]
    assert config["rootfs"]["diff_ids"] == [str(layer.diff_id) for layer in LAYERS]
    assert len(config["history"]) == len(LAYERS)


def test_config_without() -> None:
    """Without a shell there is no command, without certificates no variable for them."""
    config = json.loads(config_bytes(parse_image("git", "x"), LAYERS, False))["config"]
    assert "Cmd" not in config
    assert not [entry for entry in config["Env"] if entry.startswith("SSL")]


def test_nothing_but_the_contents_counts() -> None:
    """Neither the tag nor the way a name is written enters a config's bytes."""
    one = config_bytes(parse_image("git/jq", "x"), LAYERS, True)
    assert one == config_bytes(parse_image("jq/git/jq", "y"), LAYERS, True)


def test_manifest() -> None:
    """A manifest is read again as it was made, and is known by the digest of its bytes."""
    manifest = make_manifest(Descriptor(CONFIG_TYPE, Digest.of(b"c"), 1), LAYERS)
    assert parse_manifest(manifest.content) == manifest
    assert manifest.digest == Digest.of(manifest.content)
    assert json.loads(manifest.content)["mediaType"] == manifest.media_type == MANIFEST_TYPE


def test_what_is_no_manifest() -> None:
    """A config, other JSON, and anything else is no manifest."""
    config = config_bytes(parse_image("git", "x"), LAYERS, True)
    broken = json.dumps({"mediaType": MANIFEST_TYPE, "config": {}, "layers": []}).encode()
    deep = b"[" * 100_000
    for content in (config, b"", b"{}", b"[]", b"\xff", b"null", broken, deep):
        assert parse_manifest(content) is None
