"""The components of an image, one for each store path: what documents say of them."""

import re
from base64 import b64decode
from collections import Counter

import attrs
from packageurl import PackageURL

from nixery.model.closure import store_name
from nixery.model.contents import LOCAL, Contents, PackageFacts, PathFacts, split_name
from nixery.model.manifest import Descriptor

EPOCH = "1970-01-01T00:00:01Z"
"""The date of all documents: they are the same whenever they are made."""
_NAME = re.compile(r"[0-9a-zA-Z+\-._?=]+")
_SHA256 = re.compile(r"sha256-([A-Za-z0-9+/]{43}=)")
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:[/?#][!#-;=?-\[\]_a-z~]*)?")
# https://nvlpubs.nist.gov/nistpubs/Legacy/IR/nistir7695.pdf: thirteen parts, in which other signs
# than these are escaped.
_CPE = re.compile(r"cpe:2\.3:[aho](?::(?:[*-]|(?:[A-Za-z0-9._-]|\\[!-/:-@\[-`{-~])+)){10}")


@attrs.frozen
class PathComponent:
    """A store path.

    :param facts: what Nix says of it.
    :param name: of the package that it belongs to.
    :param version: empty if there is none.
    :param output: the name of the derivation's output; empty for the main one, or if unknown.
    :param package: what the package set says of the package, if the image names it.
    :param named: whether it is one of those that the image was made for.
    :param layer: the digest of the layer that it is in.
    :param origin: where it comes from, in words; empty if that is unknown.
    """

    facts: PathFacts
    name: str
    version: str
    output: str
    package: PackageFacts | None
    named: bool
    layer: str
    origin: str

    @property
    def path(self) -> str:
        """The store path."""
        return self.facts.path

    @property
    def nar_sha256(self) -> str:
        """The sha256 of the NAR in hexadecimal digits; empty if unknown."""
        match = _SHA256.fullmatch(self.facts.hash)
        return b64decode(match[1]).hex() if match else ""

    @property
    def purl(self) -> str:
        """The package URL, in the form that Syft has for store paths."""
        hash = self.path.removeprefix("/nix/store/")[:32]
        qualifiers = {"output": self.output, "outputhash": hash}
        return PackageURL("nix", None, self.name, self.version, qualifiers).to_string()

    @property
    def _described(self) -> PackageFacts | None:
        """The package, unless this is another output, which would be the package once more."""
        return self.package if self.named or not self.output else None

    @property
    def cpe(self) -> str:
        """The CPE 2.3 name of the package; empty if it has none."""
        cpe = self._described.cpe if self._described else ""
        return cpe if _CPE.fullmatch(cpe) else ""

    @property
    def ingredients(self) -> list[PackageURL]:
        """The package URLs of what the package was made of, such as packages of Debian."""
        found: dict[str, PackageURL] = {}
        for text in self._described.purls if self._described else ():
            try:
                purl = PackageURL.from_string(text)
                found[purl.to_string()] = purl
            except (ValueError, TypeError):  # the latter for a name of nothing but spaces
                continue
        return list(found.values())

    @property
    def homepage(self) -> str:
        """The URL of the package's home page; empty if it has none."""
        url = self.package.homepage if self.package else ""
        return url if _URL.fullmatch(url) else ""


def components_of(contents: Contents) -> list[PathComponent]:
    """The components of an image, in the order of their store paths."""
    known = _Described(contents)
    layers = {path: layer.digest for layer in contents.layers for path in layer.paths}
    origins = {
        path: "copied from this machine" if origin == LOCAL else f"fetched from {origin}"
        for path, origin in contents.substituted.items()
    }
    origins |= dict.fromkeys(contents.built, "built here")
    return [
        _component(facts, known, layers.get(facts.path, ""), origins.get(facts.path, ""))
        for facts in contents.paths
    ]


def image_purl(contents: Contents, subject: Descriptor) -> str:
    """The package URL of the image: its registry is left out, since copies are the same image."""
    name = contents.name.rpartition("/")[2]
    return PackageURL("oci", None, name, str(subject.digest)).to_string()


class _Described:
    """The packages that the package set describes, by what their store paths are known by.

    An output that is not installed, or a package that is part of an environment, is another store
    path than those of the package in the image: these are known by derivation and name.
    """

    def __init__(self, contents: Contents) -> None:
        shared = Counter(path for package in contents.packages for path in package.paths)
        derivers = {facts.path: facts.deriver for facts in contents.paths}
        self.named = set(shared)
        self._by_path: dict[str, PackageFacts] = {}
        self._by_name: dict[tuple[str, str], PackageFacts] = {}
        for package in contents.packages:
            self._by_name.setdefault((package.name, package.version), package)
            for path in package.paths:
                # An environment of several packages is none of them.
                if shared[path] == 1:
                    self._by_path[path] = package
                    self._by_path.setdefault(derivers.get(path) or path, package)

    def package(self, facts: PathFacts, name: str, version: str) -> PackageFacts | None:
        return (
            self._by_path.get(facts.path)
            or self._by_path.get(facts.deriver)
            or self._by_name.get((name, version))
        )


def _component(facts: PathFacts, known: _Described, layer: str, origin: str) -> PathComponent:
    name, version, output = _named(facts)
    package = known.package(facts, name, version)
    if package is not None:
        name = package.name if _NAME.fullmatch(package.name) else name
        version = package.version or version
    return PathComponent(
        facts,
        name or store_name(facts.path),
        version,
        output,
        package,
        facts.path in known.named,
        layer,
        origin,
    )


def _named(facts: PathFacts) -> tuple[str, str, str]:
    """Name, version and output of a store path.

    The derivation's name is that of the main output; others have theirs behind it.
    """
    own, derivation = store_name(facts.path), store_name(facts.deriver)
    if own == derivation or not derivation or not own.startswith(f"{derivation}-"):
        return *split_name(own), ""
    return *split_name(derivation), own[len(derivation) + 1 :]
