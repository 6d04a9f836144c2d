"""The root file system of an image: which folders, links and files its top layer holds.

It is what the named packages bring, in the places where a distribution has it, besides what every
system has: ``docs/images.md`` describes it for those who use images.
"""

import os
from collections.abc import Iterable, Mapping, Sequence

import attrs

from nixery.model.data_places import FONT_SETTINGS, ClosureData, add_data, data_variables
from nixery.model.events import Collided
from nixery.model.image import AMD64, ARM64
from nixery.model.inner_store import CONFIGURATION
from nixery.model.loader_cache import loader_cache
from nixery.model.tree import Data, Entry, File, Folder, Link, Output, Tree

USER, NONROOT = 1000, 65532
"""Users that are known besides root: the first of most systems, and that of images without a shell,
as Kubernetes manifests name it."""

_FOLDERS = {
    "etc": Folder(),
    "home": Folder(),
    "home/nonroot": Folder(0o700, NONROOT),
    "home/user": Folder(0o700, USER),
    "opt": Folder(),
    "root": Folder(0o700),
    "run": Folder(),
    "tmp": Folder(0o1777),
    "usr/local/bin": Folder(),
    "var/tmp": Folder(0o1777),
}
_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        f"user:x:{USER}:{USER}:user:/home/user:/bin/sh\n"
        f"nonroot:x:{NONROOT}:{NONROOT}:nonroot:/home/nonroot:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    ),
    "etc/group": f"root:x:0:\nuser:x:{USER}:\nnonroot:x:{NONROOT}:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

_OS_RELEASE = "etc/os-release"

# Certificate authorities: the names that nixpkgs and Debian give to the file of all of them, and
# where OpenSSL looks for it without being told. It is there under all, if a package has it under
# one of the first two.
_BUNDLES = ("etc/ssl/certs/ca-bundle.crt", "etc/ssl/certs/ca-certificates.crt")
_CERTIFICATES = (*_BUNDLES, "etc/ssl/cert.pem", "lib/ssl/cert.pem")
# Where scripts expect them, and what may stand there, the best first.
_LINKS = {
    "bin/sh": ("bin/sh", "bin/bash", "bin/dash"),
    **dict.fromkeys(_CERTIFICATES, _BUNDLES),
}
# In a package whose own folder stands in the way of usr/bin.
_LINKS_BEHIND = {"usr/bin/env": ("bin/env",)}
_EVERY_LINK = {**_LINKS, **_LINKS_BEHIND}
# What nixpkgs has for the loader's place: it loads the one that it is told of, or else that of a
# folder which it knows.
_NIX_LD = "libexec/nix-ld"
_NIX_LD_FOLDER = "run/current-system/sw/share/nix-ld/lib"
# A dangling link of a package is kept elsewhere, but never stands in for one of these.
_EXPECTED = frozenset(_EVERY_LINK).union(
    *_EVERY_LINK.values(), {_OS_RELEASE, CONFIGURATION, FONT_SETTINGS, _NIX_LD}
)

# What lies in /usr of a distribution, where Nix has it at the top.
_IN_USR = ("bin", "include", "lib", "libexec", "sbin", "share")

# Where programs that were made elsewhere have their loader, by the ABI of each architecture, and
# where Debian's loaders look for libraries.
_LOADERS = {AMD64: "lib64/ld-linux-x86-64.so.2", ARM64: "lib/ld-linux-aarch64.so.1"}
_LIBRARIES = {AMD64: "lib/x86_64-linux-gnu", ARM64: "lib/aarch64-linux-gnu"}
_LIBC = "libc.so.6"
_LOCALE = "lib/locale/C.utf8"
_ZONES = "share/zoneinfo"

# As container engines set it for images that say nothing.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def loader_name(system: str) -> str:
    """The file name of the loader of an architecture's C library (glibc's).

    :param system: a Nix system.
    """
    return _LOADERS[system].rpartition("/")[2]


@attrs.frozen
class CLibrary:
    """The C library of a closure, and what programs made elsewhere need besides.

    :param loader: absolute path of the loader.
    :param libraries: file name → absolute path.
    :param locale: absolute path of the data of the locale ``C.UTF-8``, if it has any.
    """

    loader: str
    libraries: Mapping[str, str]
    locale: str | None = None


@attrs.frozen
class RootFs:
    """The top layer.

    :param entries: name → entry, sorted by the names' bytes, each with its parents.
    :param environment: environment variables for what is in it.
    """

    entries: Mapping[str, Entry]
    collisions: Sequence[Collided]
    environment: Mapping[str, str]


def make_rootfs(
    outputs: Sequence[Output],
    system: str = AMD64,
    c_library: CLibrary | None = None,
    files: Mapping[str, File] | None = None,
    data: ClosureData | None = None,
    own: Mapping[str, Entry] | None = None,
    os_release: str = "",
) -> RootFs:
    """Merge packages' outputs and add what every system has.

    :param outputs: in the order of the packages' names: the first one's file is kept where two
        collide.
    :param system: the Nix system of the packages.
    :param c_library: what programs are linked with, if there is one in the closure.
    :param files: name → file, which stand before what packages' outputs have there.
    :param data: what the closure has for programs to be found.
    :param own: name → entry, which stand behind what packages' outputs have there.
    :param os_release: what the image says of itself; a package that says it instead is told.
    """
    tree = Tree()
    for name, folder in _FOLDERS.items():
        tree.put(name, folder)
    for name, file in (files or {}).items():
        tree.put(name, file)
    for output in outputs:
        tree.merge(output, _EXPECTED)
    tree.settle()
    _link(tree, _LINKS)
    variables = {} if c_library is None else _add_c_library(tree, system, c_library)
    data = data or ClosureData()
    add_data(tree, data)
    for name, content in {**_FILES, _OS_RELEASE: os_release}.items():
        tree.put(name, File(content))
    # Some look for it in usr/lib alone, which leads to lib where no package has a folder there.
    tree.put("lib/os-release", Link(f"../{_OS_RELEASE}"))
    _lead_from_usr(tree)
    tree.put("usr/lib/os-release", Link(f"../../{_OS_RELEASE}"))
    _link(tree, _LINKS_BEHIND)
    for name, entry in (own or {}).items():
        tree.put(name, entry)
    names = sorted(tree.entries, key=os.fsencode)
    entries = {name: tree.entries[name] for name in names}
    environment = {**_environment(entries), **variables, **data_variables(entries, data)}
    return RootFs(entries, tuple(tree.collisions), environment)


def _link(tree: Tree, links: Mapping[str, Iterable[str]]) -> None:
    for place, candidates in links.items():
        if found := next(filter(tree.leads_to_a_package, candidates), None):
            tree.put(place, tree.entries[found])


def _add_c_library(tree: Tree, system: str, c_library: CLibrary) -> dict[str, str]:
    """
    :return: the variables that what is in the loader's place needs.
    """
    folder, _, name = _LOADERS[system].rpartition("/")
    if tree.entries.get(folder) == Link("lib"):  # as nixpkgs' packages have it
        folder = "lib"
    has_nix_ld = tree.leads_to_a_package(_NIX_LD)
    loader = tree.entries[_NIX_LD] if has_nix_ld else Link(c_library.loader)
    tree.put(f"{folder}/{name}", loader)
    _add_libraries(tree, system, c_library.libraries, folder)
    if c_library.locale is not None:
        tree.put(_LOCALE, Link(c_library.locale))
    if not has_nix_ld:
        return {}
    # For programs that are run without these variables.
    for file, path in {**c_library.libraries, "ld.so": c_library.loader}.items():
        tree.put(f"{_NIX_LD_FOLDER}/{file}", Link(path))
    return {"NIX_LD": c_library.loader, "NIX_LD_LIBRARY_PATH": f"/{_LIBRARIES[system]}"}


def _add_libraries(tree: Tree, system: str, libraries: Mapping[str, str], folder: str) -> None:
    """Have libraries found: by loaders, and by those who look for the C library's version.

    :param folder: where the loader is.
    """
    for library, path in libraries.items():
        tree.put(f"{_LIBRARIES[system]}/{library}", Link(path))
    # Servers of editors ask ldconfig for it, where it is, and else look beside the loader.
    if _LIBC in libraries:
        tree.put(f"{folder}/{_LIBC}", Link(libraries[_LIBC]))
    if tree.leads_to_a_package("bin/ldconfig"):
        cache = loader_cache(system, f"/{_LIBRARIES[system]}", libraries)
        tree.put("etc/ld.so.cache", Data(cache))


def _lead_from_usr(tree: Tree) -> None:
    """Have what packages have at the top found in ``/usr`` too, and system programs in ``sbin``."""
    if tree.leads_somewhere("bin"):
        tree.put("sbin", Link("bin"))
    for name in _IN_USR:
        if tree.leads_somewhere(name):
            tree.put(f"usr/{name}", Link(f"../{name}"))


def _environment(entries: Mapping[str, Entry]) -> dict[str, str]:
    environment = {"PATH": _PATH}
    if _BUNDLES[0] in entries:
        environment |= dict.fromkeys(("SSL_CERT_FILE", "NIX_SSL_CERT_FILE"), f"/{_BUNDLES[0]}")
    if _LOCALE in entries:
        environment["LANG"] = "C.UTF-8"
    if _ZONES in entries:
        environment["TZDIR"] = f"/usr/{_ZONES}"
    return environment
