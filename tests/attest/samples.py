"""Contents of images for the tests of documents: usual ones, and any that there can be."""

import base64
import hashlib

from hypothesis import strategies as st

from nixery.model.contents import Contents, LayerFacts, PackageFacts, PathFacts
from nixery.model.digest import Digest
from nixery.model.manifest import MANIFEST_TYPE, Descriptor

SUBJECT = Descriptor(MANIFEST_TYPE, Digest.of(b"manifest"), 8)
LAYER = str(Digest.of(b"layer"))
_ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"


def store_path(name: str) -> str:
    """A store path of a name, another one for each."""
    digest = hashlib.sha256(name.encode()).digest()
    return f"/nix/store/{''.join(_ALPHABET[byte % 32] for byte in digest)}-{name}"


def nar_hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


LIBC, GIT, MAN = (store_path(name) for name in ("glibc-2.38-44", "git-2.42.0", "git-2.42.0-man"))
GIT_DERIVATION = f"{store_path('git-2.42.0')}.drv"

USUAL = Contents(
    "git",
    "private-branch",
    "x86_64-linux",
    "git:ssh://git.internal/set",
    "1" * 40,
    1234.5,
    (
        PackageFacts(
            "gitMinimal",
            (GIT,),
            "git",
            "2.42.0",
            "Distributed version control system",
            "https://git-scm.com/",
            ("GPL-2.0-only", "own licence"),
            "cpe:2.3:a:git-scm:git:2.42.0:*:*:*:*:*:*:*",
            ("pkg:deb/debian/git@1:2.42.0-1?arch=amd64", "no purl"),
        ),
    ),
    (
        PathFacts(GIT, 2, (LIBC, MAN), GIT_DERIVATION, (), nar_hash("git")),
        PathFacts(LIBC, 1, (), "", ("cache.example.com-1",), nar_hash("libc")),
        PathFacts(MAN, 1, (), GIT_DERIVATION, (), nar_hash("man")),
    ),
    (LayerFacts(LAYER, 5, (GIT, LIBC, MAN)), LayerFacts(str(Digest.of(b"top")), 3)),
    "https://example.com/set",
    (GIT, MAN),
    {LIBC: "https://cache.example.com"},
)

TEXTS = st.text(max_size=12)
LICENCES = st.sampled_from(
    [
        *("MIT", "GPL-2.0-or-later", "MIT OR Apache-2.0", "own", "NOASSERTION", "NONE", "("),
        *("GPL-2.0-only WITH Classpath-exception-2.0", "LicenseRef-scancode-unknown", "MIT OR ("),
        *("a b", "a/b"),
    ]
)
_NAMES = st.from_regex(r"[0-9a-zA-Z+\-._?=]{1,12}", fullmatch=True)
_HOMEPAGES = st.sampled_from(["https://example.com/x?y=z#a", "http://x y", "javascript:x"]) | TEXTS
_CPE_PART = st.from_regex(r"[*]|-|[A-Za-z0-9._-]+|([a-z]|\\\\[!-/])+", fullmatch=True)
_CPES = TEXTS | st.tuples(*[_CPE_PART] * 10).map(lambda parts: ":".join(("cpe:2.3:a", *parts)))
_PURLS = TEXTS | st.builds(
    "pkg:{}/{}@{}".format, st.sampled_from(["deb/debian", "a b", "a//%20"]), TEXTS, TEXTS
)


@st.composite
def any_contents(draw: st.DrawFn) -> Contents:
    """Contents of an image with whatever a package set may say."""
    names = draw(st.lists(_NAMES, unique=True, max_size=6))
    paths = sorted(map(store_path, names))
    some = st.lists(st.sampled_from(paths), unique=True).map(tuple) if paths else st.just(())
    derivers = st.just("") | _NAMES.map(lambda name: f"{store_path(name)}.drv")
    facts = tuple(
        PathFacts(
            path,
            draw(st.integers(0, 2**63)),
            tuple(each for each in draw(some) if each != path),
            draw(derivers | st.just(f"{path}.drv")),
            draw(st.lists(TEXTS).map(tuple)),
            draw(st.just("") | st.just(nar_hash(path)) | TEXTS),
        )
        for path in paths
    )
    package = st.builds(
        PackageFacts,
        TEXTS,
        some,
        TEXTS,
        TEXTS,
        TEXTS,
        _HOMEPAGES,
        st.lists(LICENCES | st.text(min_size=1, max_size=12), max_size=4).map(tuple),
        _CPES,
        st.lists(_PURLS, max_size=3).map(tuple),
    )
    return Contents(
        draw(st.sampled_from(["git", "shell/git", "arm64/a.b-c_d"])),
        "latest",
        "x86_64-linux",
        draw(st.sampled_from(["folder:x", "channel:nixos-unstable"])),
        draw(st.sampled_from(["1" * 40, "2" * 64, "x y"])),
        0.0,
        tuple(draw(st.lists(package, max_size=4))),
        facts,
        (LayerFacts(LAYER, 5, tuple(paths)),),
        draw(st.sampled_from(["", "https://example.com/set"])),
        draw(some),
        {path: draw(TEXTS) for path in draw(some)},
    )


def many(count: int) -> Contents:
    """The contents of an image of many store paths."""
    paths = sorted(store_path(f"package-{number}-1.{number}") for number in range(count))
    facts = (
        PathFacts(path, 1, tuple(paths[max(0, at - 5) : at]), f"{path}.drv", (), nar_hash(path))
        for at, path in enumerate(paths)
    )
    layer = LayerFacts(LAYER, 5, tuple(paths))
    packages = (PackageFacts("last", (paths[-1],), "last", "1", "", "", ("MIT",)),)
    return Contents(
        "x", "1", "x86_64-linux", "git:x", "1" * 40, 0, packages, tuple(facts), (layer,)
    )
