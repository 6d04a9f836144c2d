"""The components of an image."""

import attrs
from hypothesis import given
from packageurl import PackageURL

from nixery.attest.components import components_of, image_purl
from nixery.model.contents import Contents, PackageFacts, PathFacts
from tests.attest.samples import (
    GIT,
    GIT_DERIVATION,
    LAYER,
    LIBC,
    MAN,
    SUBJECT,
    USUAL,
    any_contents,
    store_path,
)


def test_names_and_versions() -> None:
    """A path is named by its derivation, and else by its own name; another output of a package
    that the image names is that package, too."""
    git, libc, man = components_of(USUAL)
    assert [(each.path, each.name, each.version, each.output) for each in (git, libc, man)] == [
        (GIT, "git", "2.42.0", ""),
        (LIBC, "glibc", "2.38-44", ""),
        (MAN, "git", "2.42.0", "man"),
    ]
    assert [each.package for each in (git, libc, man)] == [
        USUAL.packages[0],
        None,
        USUAL.packages[0],
    ]
    assert [each.named for each in (git, libc, man)] == [True, False, False]
    assert [each.origin for each in (git, libc, man)] == [
        "built here",
        "fetched from https://cache.example.com",
        "built here",
    ]
    assert {each.layer for each in (git, libc, man)} == {LAYER}


def test_environments() -> None:
    """An environment of several packages is none of them; a path in it that has a package's name
    and version is that package."""
    environment, library = store_path("python3-environment"), store_path("python3-yaml-6.0")
    packages = (
        PackageFacts("python3", (environment,), "python3", "3.11"),
        PackageFacts("python3Packages.yaml", (environment,), "python3-yaml", "6.0"),
    )
    paths = tuple(PathFacts(path, 1, (), GIT_DERIVATION) for path in (environment, library))
    contents = attrs.evolve(USUAL, packages=packages, paths=paths, layers=())
    found = {each.path: each for each in components_of(contents)}
    assert found[environment].package is None
    assert found[environment].name == "python3-environment"
    assert found[library].package == packages[1]


def test_ingredients() -> None:
    """A package's CPE and package URLs are told once: of the path that was named, or of the main
    output; what is neither is left out."""
    purls = ("pkg:deb/debian/git@1", "pkg:deb/debian/git@1", "x", "pkg:a//%20 @1")
    package = attrs.evolve(USUAL.packages[0], purls=purls, cpe="git")
    git, _, man = components_of(attrs.evolve(USUAL, packages=(package,)))
    assert [purl.to_string() for purl in git.ingredients] == ["pkg:deb/debian/git@1"]
    assert git.cpe == ""
    assert man.ingredients == []
    library = attrs.evolve(package, paths=(MAN,))
    git, _, man = components_of(attrs.evolve(USUAL, packages=(library,)))
    assert git.ingredients
    assert man.ingredients


def test_purls() -> None:
    """Package URLs are those that Syft gives to store paths."""
    hashes = [path[11:43] for path in (GIT, LIBC, MAN)]
    assert [each.purl for each in components_of(USUAL)] == [
        f"pkg:nix/git@2.42.0?outputhash={hashes[0]}",
        f"pkg:nix/glibc@2.38-44?outputhash={hashes[1]}",
        f"pkg:nix/git@2.42.0?output=man&outputhash={hashes[2]}",
    ]
    assert image_purl(attrs.evolve(USUAL, name="shell/git"), SUBJECT) == (
        f"pkg:oci/git@sha256:{SUBJECT.digest.hex}"
    )


@given(any_contents())
def test_any_path_has_a_name(contents: Contents) -> None:
    """Each path is one component that has a name, and a package URL that others can read."""
    found = components_of(contents)
    assert [each.facts for each in found] == list(contents.paths)
    for component in found:
        assert component.name
        read = PackageURL.from_string(component.purl)
        assert (read.type, read.qualifiers["outputhash"]) == ("nix", component.path[11:43])
