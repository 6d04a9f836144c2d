"""The part of an image's config that tells container engines how to run it."""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from nixery.model.closure import Realisation, Root
from nixery.model.data_places import ClosureData
from nixery.model.declaration import Declaration, parse_declaration
from nixery.model.identity import Identity, labels_of
from nixery.model.image import Image
from nixery.model.inner_store import PROFILE, has_nix
from nixery.model.library_paths import search_paths
from nixery.model.rootfs import USER, CLibrary, RootFs, make_rootfs
from nixery.model.tree import Entry, Kind, Output

_USERS_HOME = "/home/user"

_OF_ONE, _OF_ALL = 3, 10  # programs that are told of a package, and of an image


@attrs.frozen
class Execution:
    """The defaults with which containers of an image run.

    :param environment: environment variables.
    :param entrypoint: program and first arguments.
    :param command: program and arguments, or the arguments of the entry point; none where no
        program suggests itself.
    :param user: name or number, with a group behind a colon; root if there is none.
    :param folder: the working directory; the root if there is none.
    :param ports: those that services listen at.
    :param volumes: folders that are to outlive a container.
    :param programs: what else may be run, by name: of each package that was named its main program,
        or its first ones.
    """

    environment: Mapping[str, str]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    user: str = ""
    folder: str = ""
    labels: Mapping[str, str] = attrs.Factory(dict)
    ports: Sequence[str] = ()
    volumes: Sequence[str] = ()
    programs: Sequence[str] = ()


def furnish(
    image: Image,
    realisation: Realisation,
    outputs: Sequence[Output],
    identity: Identity,
    c_library: CLibrary | None = None,
    data: ClosureData | None = None,
    own: Mapping[str, Entry] | None = None,
) -> tuple[RootFs, Execution]:
    """The root file system of an image, and how a container of it is run.

    :param outputs: of its packages, in the order of their names.
    :param identity: what it says of itself.
    :param c_library: of its closure, if there is one.
    :param data: what it has for programs to be found.
    :param own: what is to be in the root file system besides: name → entry.
    :raises EvaluationFailed: if a package says of images what can't be.
    """
    said = {root.package: root for root in realisation.roots if root.said is not None}
    declarations = {
        package: parse_declaration(root.attribute, root.said) for package, root in said.items()
    }
    for declaration in declarations.values():
        declaration.check_paths(realisation.graph)
    files = {n[1:]: f for d in reversed(declarations.values()) for n, f in d.files.items()}
    rootfs = make_rootfs(outputs, image.system, c_library, files, data, own, identity.os_release)
    roots = realisation.roots
    environment = {**rootfs.environment, **search_paths(roots, outputs)}
    if has_nix(outputs):
        home = _USERS_HOME if image.user else "/root"
        environment["PATH"] = f"{home}/{PROFILE}:{environment['PATH']}"
    execution = make_execution(image, roots, outputs, environment, declarations)
    labels = {**labels_of(identity, image, roots), **execution.labels}
    return rootfs, attrs.evolve(execution, labels=labels)


def make_execution(
    image: Image,
    roots: Sequence[Root],
    outputs: Sequence[Output],
    environment: Mapping[str, str],
    declarations: Mapping[str, Declaration],
) -> Execution:
    """The defaults with which containers of an image run.

    What packages say of environment, labels, ports and volumes holds in every image that has
    them, the first package's word before the others'. How it is started, and as whom, a package
    says only where it is named alone.

    :param roots: the packages of the image.
    :param outputs: what is in them.
    :param environment: variables for what is in the root file system.
    :param declarations: package → what it says.
    """
    every = list(declarations.values())
    alone = declarations.get(image.own[0]) if len(image.own) == 1 and not image.shell else None
    entrypoint = alone.entrypoint if alone is not None else ()
    command = alone.command if alone is not None else ()
    user, folder = ("", "") if alone is None else (alone.user, alone.folder)
    if image.user:
        user, folder = f"{USER}:{USER}", folder or _USERS_HOME
    return Execution(
        environment={**environment, **_merged(each.environment for each in every)},
        entrypoint=entrypoint,
        command=command if command or entrypoint else default_command(image, roots, outputs),
        user=user,
        folder=folder,
        labels=_merged(each.labels for each in every),
        ports=sorted({port for each in every for port in each.ports}),
        volumes=sorted({volume for each in every for volume in each.volumes}),
        programs=programs_of(image, roots, outputs),
    )


def _merged(sets: Iterable[Mapping[str, str]]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for each in sets:
        merged = {**each, **merged}
    return dict(sorted(merged.items()))


def default_command(
    image: Image, roots: Sequence[Root], outputs: Sequence[Output]
) -> tuple[str, ...]:
    """The command of an image: bash for ``shell``, the program of a package that is named alone.

    That program is the one that the package says is its main one, else its only one.
    """
    if image.shell:
        return ("bash",)
    if len(image.own) != 1:
        return ()
    root = next((root for root in roots if root.package == image.own[0]), None)
    programs = [] if root is None else _programs(root, outputs)
    if root is not None and root.program in programs:
        return (root.program,)
    # Those with a dot in front are the real ones behind wrappers.
    shown = [name for name in programs if not name.startswith(".")]
    return tuple(shown) if len(shown) == 1 else ()


def programs_of(image: Image, roots: Sequence[Root], outputs: Sequence[Output]) -> tuple[str, ...]:
    """Programs of an image to run by name, for each package that was named.

    That is the one that the package says is its main one, else the one of its own name, else its
    first few.
    """
    own = [root for root in roots if root.package in image.own]
    found: dict[str, None] = {}
    # An interpreter and its libraries are one package.
    for path in dict.fromkeys(root.path for root in own):
        same = [root for root in own if root.path == path]
        programs = _programs(same[0], outputs)
        names = (name for root in same for name in (root.package, root.attribute))
        called = [*(root.program for root in same), *(name.rpartition(".")[2] for name in names)]
        shown = sorted(name for name in programs if name.isprintable() and name[0] != ".")
        main = [name for name in called if name in programs][:1]
        found.update(dict.fromkeys(main or shown[:_OF_ONE]))
    return tuple(found)[:_OF_ALL]


def _programs(root: Root, outputs: Sequence[Output]) -> list[str]:
    """The programs in ``bin`` of a package, without folders and dangling links."""
    listing = next((output.listing for output in outputs if output.path == root.path), {})
    return [
        name.removeprefix("bin/")
        for name, item in listing.items()
        if name.startswith("bin/") and name.count("/") == 1 and item.kind is Kind.OTHER
    ]
