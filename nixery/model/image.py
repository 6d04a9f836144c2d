"""From a repository name and a tag to an image: the grammar, meta-packages, architecture.

Names follow the distribution specification; the path components of a name are package names
of the set (``shell/git/python3packages.six``), meta-packages first.
"""

import re
from collections.abc import Iterator

import attrs

from nixery.model.request_errors import ImageInvalid, NameInvalid, TagInvalid
from nixery.model.tags import LATEST, TAG

# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")

# An attribute in lower case, and which of its letters are not.
_CAPITALS = re.compile(r"([a-z0-9_.-]*[a-z0-9])--([0-9]{1,3}(?:-[0-9]{1,3})*)")

MAX_NAME_LENGTH = 255
"""Characters of a name: clients refuse longer ones, counted with the registry's host."""

SHELL = ("bashInteractive", "coreutils", "moreutils", "nano")
"""What the meta-package ``shell`` stands for."""
CI = (
    *("curl", "diffutils", "findutils", "gawk", "getent", "git", "gnugrep", "gnused", "gnutar"),
    *("gzip", "procps", "which", "xz"),
)
"""What the meta-package ``ci`` stands for, besides all of ``shell``: programs that CI systems run
in the containers of their jobs."""
_FOR_FOREIGN_PROGRAMS = ("nix-ld", "stdenv.cc.cc.lib")
"""What nixpkgs has for programs that CI systems bring along: what stands in the loader's place, and
libstdc++."""
ALWAYS = ("cacert", "iana-etc")
"""Packages that come with every image if the set has them."""

AMD64 = "x86_64-linux"
ARM64 = "aarch64-linux"
LIBRARY = "library"
"""What docker's own registry has before the names of official images, and some clients put before
every single name."""
SYSTEMS = {"linux/amd64": AMD64, "linux/arm64": ARM64}
"""Platforms, as image indexes and clients write them → their Nix systems."""
_PLATFORMS = {platform.removeprefix("linux/"): system for platform, system in SYSTEMS.items()}
META = ("shell", "ci", "user", *_PLATFORMS)
"""Names of a first component that stand for no package."""


@attrs.frozen
class Image:
    """The image that a pull asks for: equal for all spellings of its name.

    :param packages: attribute paths as the set is asked for them, sorted, without repeats;
        those of meta-packages included, those of :attr:`optional` not.
    :param shell: whether the meta-package ``shell`` was named, or one that has it.
    :param ci: whether ``ci`` was, which is more than ``shell``.
    :param user: whether ``user`` was: containers are run as an ordinary user then.
    :param prefixed: whether the name is ``library/NAME``, as some clients write ``NAME``.
    :param system: the Nix system that the image is for.
    :param tag: which revision of the package source.
    :param has_platform: whether the name says what the image is for; all platforms of the registry
        are asked for if it does not.
    """

    packages: tuple[str, ...]
    tag: str = LATEST
    shell: bool = False
    system: str = AMD64
    ci: bool = False
    user: bool = False
    prefixed: bool = False
    has_platform: bool = False

    def on(self, system: str) -> "Image":
        """The image for one system."""
        return attrs.evolve(self, system=system, has_platform=True)

    @property
    def own(self) -> list[str]:
        """The packages without those that meta-packages stand for."""
        return [p for p in self.packages if self.meta_of(p) is None]

    @property
    def optional(self) -> list[str]:
        """Packages that come along if the set has them."""
        wanted = (*ALWAYS, *(_FOR_FOREIGN_PROGRAMS if self.ci else ()))
        return [name for name in wanted if name not in self.packages]

    def meta_of(self, package: str) -> str | None:
        """The meta-package that was named and stands for a package, if one does."""
        if self.ci:
            return "ci" if package in (*SHELL, *CI) else None
        return "shell" if self.shell and package in SHELL else None

    @property
    def groups(self) -> list[str]:
        """The meta-packages that were named and stand for packages."""
        return ["ci"] if self.ci else ["shell"] if self.shell else []

    @property
    def official(self) -> "Image | None":
        """The image without ``library``, if that may be what a client has put there."""
        if not self.prefixed:
            return None
        packages = tuple(package for package in self.packages if package != LIBRARY)
        return attrs.evolve(self, packages=packages, prefixed=False)

    @property
    def name(self) -> str:
        """The shortest repository name of this image, in sorted order; of one for amd64 it is the
        name without a platform, which stands for the other platforms as well where there are some.
        """
        if self.official is not None:
            return f"{LIBRARY}/{self.official.name}"
        others = {"user": self.user, "arm64": self.system == ARM64}
        meta = [*self.groups, *(name for name, is_named in others.items() if is_named)]
        return "/".join([*meta, *self.own])

    @property
    def names(self) -> list[str]:
        """The names that this image may be known by, the likeliest first: on a registry for arm64
        alone, one whose name says no platform is known by that with it."""
        systems = () if self.has_platform else SYSTEMS.values()
        return list(dict.fromkeys([self.name, *(self.on(system).name for system in systems)]))

    @property
    def architecture(self) -> str:
        """The architecture as image configs write it (GOARCH)."""
        return platform_of(self.system).removeprefix("linux/")


def platform_of(system: str) -> str:
    """The platform of a Nix system."""
    return next(platform for platform, each in SYSTEMS.items() if each == system)


def parse_image(name: str, tag: str) -> Image:
    """Read the name and the tag of a manifest request.

    :raises NameInvalid: if the name is outside the grammar or too long; ``ImageInvalid`` if it
        names no package, several platforms, or a meta-package behind a package.
    :raises TagInvalid: if the tag is outside the grammar.
    """
    if not TAG.fullmatch(tag):
        raise TagInvalid(tag=tag)
    components = parse_name(name)
    meta = list(_leading_meta(components))
    named = set(components[len(meta) :])
    if (official := official_name(name)) in META:
        return parse_image(official, tag)
    if misplaced := sorted(named.intersection(META)):
        raise ImageInvalid(name, f"the meta-package {misplaced[0]!r} must come before packages")
    systems = {_PLATFORMS[word] for word in meta if word in _PLATFORMS}
    if len(systems) > 1:
        raise ImageInvalid(name, "it names two platforms; a name without one stands for all")
    ci = "ci" in meta
    shell = "shell" in meta or ci
    packages = sorted({*named, *(SHELL if shell else ()), *(CI if ci else ())})
    if not packages:
        raise ImageInvalid(name, "it names no package")
    return Image(
        packages=tuple(packages),
        tag=tag,
        shell=shell,
        system=next(iter(systems), AMD64),
        ci=ci,
        user="user" in meta,
        prefixed=official != "",
        has_platform=bool(systems),
    )


def split_reference(text: str) -> tuple[str, str, str | None]:
    """The parts of ``NAME``, ``NAME:TAG`` or ``NAME@DIGEST``, none of them checked.

    :return: the name; the tag, which is ``latest`` if none is given; the digest, which is empty
        behind an ``@`` that nothing follows, and none without one.
    """
    name, at, digest = text.partition("@")
    name, _, tag = name.partition(":")
    return name, tag or LATEST, digest if at else None


def parse_name(name: str) -> list[str]:
    """Split a repository name into its path components.

    :raises NameInvalid: if it is outside the grammar of names, or longer than 255 characters.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise NameInvalid(name, f"it has {len(name)} characters; the limit is {MAX_NAME_LENGTH}")
    components = name.split("/")
    for component in components:
        if not _COMPONENT.fullmatch(component):
            raise NameInvalid(
                name,
                f"{component!r} is not a valid package name (registries allow lower-case letters "
                "and digits, separated by '.', '_', '__' or '-')",
            )
    return components


def spellings(step: str) -> list[str]:
    """The attributes that a step of a package's name means, before those that differ in case.

    ``7zz`` is ``_7zz`` too, since no attribute begins with a digit; the letters that are numbered
    behind two dashes are capital ones: ``iostringy--1-2-3`` is ``IOStringy``.

    :return: the likeliest first.
    """
    written = [step]
    if (match := _CAPITALS.fullmatch(step)) is not None:
        letters, places = list(match[1]), [int(place) for place in match[2].split("-")]
        if places == sorted(set(places)) and places[0] > 0 and places[-1] <= len(letters):
            for place in places:
                letters[place - 1] = letters[place - 1].upper()
            written.append("".join(letters))
    return [*written, *(f"_{each}" for each in written if each[0].isdigit())]


def name_parts(package: str) -> set[str]:
    """The parts of the names of images that hold a package which was asked for.

    :param package: an attribute path, or as images write it.
    """
    groups = {"shell": (*SHELL,), "ci": (*SHELL, *CI)}
    return {package.lower(), *(group for group, held in groups.items() if package in held)}


def exact_image_name(attribute: str) -> str:
    """The name of an attribute where others differ from it in case only.

    :return: nothing (the empty text) if no name can ask for it.
    """
    name = image_name(attribute)
    places = [str(n) for n, letter in enumerate(attribute.lstrip("_"), 1) if letter.isupper()]
    return f"{name}--{'-'.join(places)}" if name and places else name


def official_name(name: str) -> str:
    """The ``NAME`` of ``library/NAME``.

    :return: empty for all other names.
    """
    library, _, rest = name.partition("/")
    return rest if library == LIBRARY and "/" not in rest and rest != LIBRARY else ""


def image_name(attribute: str) -> str:
    """The name of an attribute in image names.

    :return: nothing (the empty text) if no name can ask for it, as for one with a dot, which would
        separate two attributes.
    """
    name = attribute.lower()
    if name[:1] == "_" and name[1:2].isdigit():
        name = name[1:]
    return name if _COMPONENT.fullmatch(name) and "." not in name else ""


def _leading_meta(components: list[str]) -> Iterator[str]:
    for component in components:
        if component not in META:
            return
        yield component
