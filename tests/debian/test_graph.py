"""From Debian packages to the derivations of the set."""

from dataclasses import replace
from typing import Any

import pytest
from deb import Deb, interpreter, parse_dependencies
from graph import Node, choose, circles, make_lock, reach
from programs import SetupError

ROOTS: dict[str, Any] = {
    "attributes": {"app": "app", "nested.lib": "lib", "gone": "no-such-package"},
    "also": [],
    "merged": {"perl": ["perl", "perl-base"]},
    "leftOut": ["debconf"],
    "parts": {},
    "interpreters": {},
    "alone": [],
    "wrapped": {},
}


def deb(
    name: str,
    needs: str = "",
    provides: str = "",
    interpreters: str = "",
    programs: str = "",
    version: str = "1:2.0~rc1-3",
) -> Deb:
    return Deb(
        name=name,
        version=version,
        description="",
        homepage="",
        file=f"{name}.deb",
        sha256="0" * 64,
        dependencies=parse_dependencies(needs),
        provides=tuple(provides.split()),
        interpreters=frozenset(interpreters.split()),
        programs=frozenset(programs.split()),
    )


def lock(*debs: Deb, **roots: Any) -> Any:
    return make_lock({d.name: d for d in debs}, {**ROOTS, **roots}, "amd64", "debian-12")


@pytest.mark.parametrize(
    ("programs", "main"),
    [("rg", "rg"), ("app app-shell", "app"), ("free ps", None), ("", None)],
)
def test_the_main_program(programs: str, main: str | None) -> None:
    """A package is mainly for the program of its name, or for the only one that it has."""
    assert lock(deb("app", programs=programs))["packages"]["app"]["program"] == main


def test_package_urls() -> None:
    """A derivation tells which packages of Debian it is made of, as scanners know them."""
    perl = replace(deb("perl", version="5.36.0-7+deb12u2"), file="perl_5_amd64.deb")
    base = replace(deb("perl-base"), file="perl-base_2_all.deb")
    made = lock(deb("app", "perl"), perl, base)["packages"]
    assert made["perl"]["purls"] == [
        "pkg:deb/debian/perl@5.36.0-7%2Bdeb12u2?arch=amd64&distro=debian-12",
        "pkg:deb/debian/perl-base@1:2.0~rc1-3?arch=all&distro=debian-12",
    ]


def test_dependencies() -> None:
    """Versions and architectures are no part of a name; alternatives stay together."""
    assert parse_dependencies("a (>= 1), b | c:any , d") == (("a",), ("b", "c"), ("d",))
    assert parse_dependencies("") == ()


@pytest.mark.parametrize(
    ("shebang", "package"),
    [
        ("/bin/sh -e", "bash"),
        ("/usr/bin/env perl", "perl"),
        ("/usr/bin/python3.11", "python3"),
        ("/usr/bin/awk -f", None),
        ("", None),
    ],
)
def test_interpreters(shebang: str, package: str | None) -> None:
    """A script's first line tells which package it needs, if it is one that is known."""
    assert interpreter(shebang) == package


def test_alternatives() -> None:
    """Of alternatives the one that is there is chosen, by its name before by another's."""
    assert choose(["x", "y"], ["y"], {"x": "z"}) == "y"
    assert choose(["x", "y"], [], {"y": "z"}) == "z"
    assert choose(["x"], [], {}) is None


def test_a_lock_file() -> None:
    """The lock names what the attributes reach, with versions that a store path may have."""
    made = lock(
        deb("app", "lib (>= 2), debconf, perl-base"),
        *(deb("lib"), deb("perl", "lib"), deb("perl-base"), deb("debconf"), deb("other")),
    )
    assert made["attributes"] == {"app": "app", "nested.lib": "lib"}
    assert set(made["packages"]) == {"app", "lib", "perl"}
    assert made["packages"]["app"]["depends"] == ["lib", "perl"]
    assert made["packages"]["app"]["version"] == "2.0-rc1-3"
    assert [d["file"] for d in made["packages"]["perl"]["debs"]] == ["perl.deb", "perl-base.deb"]


def test_parts_of_other_packages() -> None:
    """A derivation may have a folder of a package that it does not depend on."""
    made = lock(deb("app"), deb("data", "app"), parts={"app": {"data": "share/x/"}})
    debs = made["packages"]["app"]["debs"]
    assert [(d["file"], d["only"]) for d in debs] == [("app.deb", ""), ("data.deb", "share/x/")]
    assert made["packages"]["app"]["depends"] == []


def test_scripts_do_without_an_interpreter_that_needs_them() -> None:
    """A circle that only a script's interpreter closes is broken there."""
    made = lock(deb("app", "lib"), deb("lib", interpreters="app"))
    assert made["packages"]["lib"]["depends"] == []
    assert made["packages"]["app"]["depends"] == ["lib"]


def test_other_circles_are_one_package() -> None:
    """Packages that need each other become one derivation, under the name of one that there is
    more to say about, or the shortest; what needed one of them needs it."""
    made = lock(
        deb("app", "lib"), deb("lib", "lib-data"), deb("lib-data", "lib, other"), deb("other")
    )
    assert set(made["packages"]) == {"app", "lib", "other"}
    assert made["packages"]["app"]["depends"] == ["lib"]
    assert made["packages"]["lib"]["depends"] == ["other"]
    assert [d["file"] for d in made["packages"]["lib"]["debs"]] == ["lib.deb", "lib-data.deb"]
    assert made["attributes"]["nested.lib"] == "lib"
    made = lock(deb("app", "lib"), deb("lib", "data"), deb("data", "lib"), parts={"lib": {}})
    assert set(made["packages"]) == {"app", "lib"}


def test_circles_of_packages_with_more_to_say_are_refused() -> None:
    """Packages that need each other, of which several are described, are named for someone to
    merge them."""
    with pytest.raises(SetupError, match=r"app.*lib"):
        lock(deb("app", "lib"), deb("lib", "app"), parts={"app": {}, "lib": {}})


def test_names_and_folders_of_any_release() -> None:
    """What a release names after a version is found, whichever version that is."""
    wrapping = {"programs": ["perl"], "environment": {"PERL5LIB": "@out@/perl/{perl}"}, "needs": []}
    made = lock(
        deb("app", "perl, gcc-99-base"),
        *(deb("perl", "libperl5.40t64", version="5.40.1-6"), deb("libperl5.40t64")),
        deb("gcc-99-base"),
        merged={"perl": ["perl", "libperl5.*"]},
        leftOut=["gcc-*-base"],
        wrapped={"perl": wrapping},
    )
    assert set(made["packages"]) == {"app", "perl"}
    assert len(made["packages"]["perl"]["debs"]) == 2
    assert made["packages"]["perl"]["wrapped"]["environment"] == {"PERL5LIB": "@out@/perl/5.40"}


def test_circles_and_reach() -> None:
    """Circles are the sets that all reach each other; reaching includes oneself."""
    nodes = {
        name: Node(depends=set(needs)) for name, needs in {"a": "b", "b": "ac", "c": ""}.items()
    }
    assert circles(nodes) == [{"a", "b"}]
    assert reach(nodes, ["a"]) == {"a", "b", "c"}
    assert reach(nodes, ["c"]) == {"c"}
