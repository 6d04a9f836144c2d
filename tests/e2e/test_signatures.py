"""Signatures and attestations, as other programs find, verify and copy them."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest

from nixery.web.referrers import PUBLIC_KEYS
from tests.attest.keys import ECDSA_KEY, ED25519_KEY, write_key
from tests.e2e.clients import Ran, run
from tests.e2e.daemon import Daemon, running
from tests.e2e.debian import DEBIAN_TESTING, Root, make_root
from tests.e2e.packages import PackageSet
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.real_nix, pytest.mark.real_client]

KEYS = ("ecdsa", "ed25519")
TYPES = ("spdxjson", "cyclonedx", "slsaprovenance1")
REGISTRY = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@attrs.frozen
class Verifiers:
    """Programs of Debian's testing release that know signatures, and a folder with public keys.

    :param daemon: signs by two keys.
    """

    daemon: Daemon
    root: Root
    folder: Path

    def __call__(self, *argv: str) -> Ran:
        return run(self.root.inside(self.folder, *argv))

    def ok(self, *argv: str) -> str:
        """The output of a program that must succeed."""
        ran = self(*argv)
        assert ran.code == 0, f"{' '.join(argv)}: {ran.output}"
        return ran.output

    def image(self, name: str = "hello") -> str:
        """An image, which is made if need be."""
        assert self.daemon.pull(name).status == 200
        return f"{self.daemon.host}/{name}"

    def cosign(self, command: str, image: str, key: str, *options: str) -> Ran:
        """Have cosign verify an image; whether it succeeds is in the exit code."""
        given = [f"--key={self.folder}/{key}.pub", "--insecure-ignore-tlog=true", *options]
        return self("cosign", command, "--allow-http-registry", *given, image)

    def listed(self, image: str) -> int:
        """How many artifacts refer to an image."""
        found = self.ok("oras", "discover", "--plain-http", "--format=json", image)
        return len(json.loads(found)["referrers"])


@pytest.fixture(scope="module")
def verifiers(
    package_set: PackageSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Verifiers]:
    """The programs, and a daemon that signs by an ECDSA key and by an Ed25519 key."""
    folder = tmp_path_factory.mktemp("verifiers")
    keys = [
        write_key(folder / f"{name}.pem", key)
        for name, key in zip(KEYS, (ECDSA_KEY, ED25519_KEY), strict=True)
    ]
    port = free_port()
    signing = {"NIXERY_SIGNING_KEY": " ".join(keys), "NIXERY_SIGNING_HOST": f"localhost:{port}"}
    environ = {**package_set.environ, **signing, "PORT": str(port)}
    for name in KEYS:
        public = run(["openssl", "pkey", "-in", str(folder / f"{name}.pem"), "-pubout"])
        (folder / f"{name}.pub").write_text(public.output)
    other = run(["openssl", "genpkey", "-algorithm", "ed25519"]).output
    (folder / "other.pub").write_text(run(["openssl", "pkey", "-pubout"], other).output)
    with running(folder / "state", environ) as daemon:
        yield Verifiers(daemon, make_root(DEBIAN_TESTING), folder)


@contextmanager
def registry(verifiers: Verifiers) -> Iterator[str]:
    """The host of another registry, for the length of a block."""
    port, settings = free_port(), verifiers.folder / "registry.yml"
    settings.write_text(REGISTRY.format(folder=verifiers.folder, port=port))
    command = verifiers.root.inside(verifiers.folder, "docker-registry", "serve", str(settings))
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        stack.callback(process.kill)
        host = f"localhost:{port}"
        wait_until(lambda: run(["curl", "-sf", f"http://{host}/v2/"]).code == 0)
        yield host


@pytest.mark.parametrize("bundles", ["true", "false"])
@pytest.mark.parametrize("key", KEYS)
def test_cosign(verifiers: Verifiers, key: str, bundles: str) -> None:
    """cosign verifies an image and all attestations by each of the keys, from bundles and from its
    own tags; by another key it does not."""
    image, form = verifiers.image(), f"--new-bundle-format={bundles}"
    ran = verifiers.cosign("verify", image, key, form)
    assert ran.code == 0, ran.output
    for kind in TYPES:
        ran = verifiers.cosign("verify-attestation", image, key, form, f"--type={kind}")
        assert ran.code == 0, ran.output
    for command, options in (("verify", []), ("verify-attestation", ["--type=spdxjson"])):
        assert verifiers.cosign(command, image, "other", form, *options).code != 0


def test_the_published_key(verifiers: Verifiers) -> None:
    """The key that the registry publishes is one that cosign verifies with, as it is."""
    image = verifiers.image()
    key = f"http://{verifiers.daemon.host}{PUBLIC_KEYS}"
    options = ("--insecure-ignore-tlog=true", "--allow-http-registry")
    verifiers.ok("cosign", "verify", f"--key={key}", *options, image)


@pytest.mark.parametrize("key", [*KEYS, "other"])
def test_a_policy_of_podman(verifiers: Verifiers, key: str) -> None:
    """What podman, skopeo and CRI-O have as policies lets an image through whose signature is by
    the key, and names the repository; and no other."""
    host, image = verifiers.daemon.host, verifiers.image()
    signed = {
        "type": "sigstoreSigned",
        "keyPath": f"{verifiers.folder}/{key}.pub",
        "signedIdentity": {"type": "matchRepository"},
    }
    policy, places = verifiers.folder / "policy.json", verifiers.folder / "registries.d"
    transports = {"docker": {host: [signed]}}
    policy.write_text(json.dumps({"default": [{"type": "reject"}], "transports": transports}))
    places.mkdir(exist_ok=True)
    (places / "signed.yaml").write_text(f"docker: {{'{host}': {{use-sigstore-attachments: true}}}}")
    options = (f"--policy={policy}", f"--registries.d={places}")
    copy = ("copy", "--src-tls-verify=false", f"docker://{image}", f"dir:{verifiers.folder}/{key}")
    ran = verifiers("skopeo", *options, *copy)
    assert (ran.code == 0) == (key != "other"), ran.output


def test_discovery(verifiers: Verifiers) -> None:
    """oras lists all that is attached: documents, and bundles by each key, of a type if asked for
    one, and also where it looks at the tag that older registries have instead."""
    image = f"{verifiers.image()}:latest"
    discover = ("oras", "discover", "--plain-http", "--format=json")
    found = [
        json.loads(verifiers.ok(*discover, *options, image))["referrers"]
        for options in ((), ("--distribution-spec=v1.1-referrers-tag",))
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 3 + 2 * 4
    of_type = ("--artifact-type=application/spdx+json",)
    [sbom] = json.loads(verifiers.ok(*discover, *of_type, image))["referrers"]
    folder = f"{verifiers.folder}/pulled"
    verifiers.ok("oras", "pull", "--plain-http", f"--output={folder}", sbom["reference"])
    [path] = Path(folder).iterdir()
    assert json.loads(path.read_text())["spdxVersion"] == "SPDX-2.3"


def test_the_builder(verifiers: Verifiers) -> None:
    """The provenance names the registry as the builder, at the image's page as in the artifact."""
    host, image = verifiers.daemon.host, f"{verifiers.image()}:latest"
    page = run(["curl", "-sf", f"http://{host}/images/{image.partition('/')[2]}/provenance"])
    predicate = json.loads(page.output)["predicate"]
    assert predicate["runDetails"]["builder"] == {"id": f"https://{host}"}
    discover = ("oras", "discover", "--plain-http", "--format=json")
    of_type = ("--artifact-type=application/vnd.in-toto+json",)
    found = json.loads(verifiers.ok(*discover, *of_type, image))["referrers"]
    manifests = [
        json.loads(verifiers.ok("oras", "manifest", "fetch", "--plain-http", each["reference"]))
        for each in found
    ]
    digest = f"sha256:{hashlib.sha256(page.output.encode()).hexdigest()}"
    assert digest in [manifest["layers"][0]["digest"] for manifest in manifests]


def test_copies(verifiers: Verifiers) -> None:
    """A copy by ``oras cp -r`` has all that refers to the image, and one by cosign the signature at
    its tag: both can be verified where they are; a copy of the image alone has neither."""
    image = f"{verifiers.image()}:latest"
    plain = ("--from-plain-http", "--to-plain-http")
    with registry(verifiers) as host:
        verifiers.ok("oras", "cp", "-r", *plain, image, f"{host}/oras:latest")
        assert verifiers.listed(f"{host}/oras:latest") == verifiers.listed(image)
        verifiers.ok("cosign", "copy", "--allow-http-registry", image, f"{host}/cosign:latest")
        verifiers.ok("oras", "cp", *plain, image, f"{host}/alone:latest")
        assert verifiers.listed(f"{host}/alone:latest") == 0
        for name, copied in (("oras", True), ("cosign", True), ("alone", False)):
            ran = verifiers.cosign("verify", f"{host}/{name}:latest", "ed25519")
            assert (ran.code == 0) == copied, ran.output
