"""Contents of images: what is noted of them, and how they are kept."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixery.model.about import About, License
from nixery.model.closure import Realisation, Root
from nixery.model.contents import (
    LOCAL,
    Contents,
    LayerFacts,
    PackageFacts,
    PathFacts,
    contents_of,
    pack_contents,
    split_name,
    unpack_contents,
)
from nixery.model.digest import Digest
from nixery.model.image import parse_image
from nixery.model.manifest import Descriptor, Layer
from nixery.model.source import Commit, GitRepository, PinnedSource

LIBC, GIT, DOC = (
    f"/nix/store/{letter * 32}-{name}"
    for letter, name in (("a", "libc-2.0"), ("b", "git-2.39.5"), ("c", "git-2.39.5-doc"))
)
LAYER = Layer(Descriptor("gzip", Digest.of(b"layer"), 5), Digest.of(b"tar"), (LIBC,))
TOP = Layer(Descriptor("gzip", Digest.of(b"top"), 3), Digest.of(b"top tar"))


def realisation(substituted: dict[str, str]) -> Realisation:
    about = About("2.39.5", "a tool", "https://x", (License("MIT", "mit"), License("", "own")))
    root = Root("git", "git", GIT, (DOC,), about=about, name="git-2.39.5")
    return Realisation(
        (root,),
        {
            LIBC: {"size": 1, "references": [], "signers": ["x-1"], "hash": "sha256-x"},
            GIT: {"size": 2, "references": [LIBC], "deriver": f"{GIT}.drv", "built": True},
            DOC: {"size": 3, "references": []},
        },
        "guard",
        has_library=False,
        substituted=substituted,
    )


def made_of(substituted: dict[str, str]) -> Contents:
    url = "https://user:secret@example.com/set?token=secret"
    pinned = PinnedSource(GitRepository(url), Commit(url, "1" * 40))
    image = parse_image("git", "v1")
    return contents_of(image, pinned, realisation(substituted), [LAYER, TOP], 5.0)


def test_what_is_noted() -> None:
    """Packages, paths and layers are noted with where they come from; nothing is told of secrets
    and of places on this machine, and nothing of store paths that are not in the image."""
    found = made_of(
        {
            LIBC: "https://user:secret@cache.example.com/?token=secret",
            DOC: "file:///srv/private/cache",
            GIT: "https://tried.first",
            f"{GIT}-else": "https://other",
        }
    )
    licences = ("MIT", "own")
    assert found.packages == (
        PackageFacts("git", (GIT, DOC), "git", "2.39.5", "a tool", "https://x", licences),
    )
    assert found.paths == (
        PathFacts(LIBC, 1, signers=("x-1",), hash="sha256-x"),
        PathFacts(GIT, 2, (LIBC,), f"{GIT}.drv"),
        PathFacts(DOC, 3),
    )
    assert found.layers == (
        LayerFacts(str(LAYER.descriptor.digest), 5, (LIBC,)),
        LayerFacts(str(TOP.descriptor.digest), 3),
    )
    assert found.built == (GIT,)
    assert found.substituted == {LIBC: "https://cache.example.com/", DOC: LOCAL}
    assert "secret" not in str(found)
    assert found.revision == "1" * 40


@pytest.mark.parametrize("origin", ["/srv/x", "local?root=/srv", "daemon", "unix:///run/x", ""])
def test_local_origins(origin: str) -> None:
    """A store on this machine is told as such, whatever it is called."""
    assert made_of({LIBC: origin}).substituted == {LIBC: LOCAL}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("git-2.39.5", ("git", "2.39.5")),
        ("python3.11-requests-2.31.0", ("python3.11-requests", "2.31.0")),
        ("a-b", ("a-b", "")),
        ("git-2.39.5-doc", ("git", "2.39.5-doc")),
        ("a-_b", ("a", "_b")),
        ("a--1", ("a", "-1")),
        ("a-", ("a-", "")),
        ("-1", ("", "1")),
        ("a-unstable-2023-01-02", ("a-unstable", "2023-01-02")),
        ("", ("", "")),
    ],
)
def test_names_are_split_as_nix_does(name: str, parts: tuple[str, str]) -> None:
    """The version begins where ``builtins.parseDrvName`` has it."""
    assert split_name(name) == parts


TEXT = st.text(max_size=20)


@st.composite
def all_contents(draw: st.DrawFn) -> Contents:
    names = draw(st.lists(TEXT, unique=True, max_size=5))
    some = st.lists(st.sampled_from(names), unique=True).map(tuple) if names else st.just(())
    origins = st.dictionaries(st.sampled_from(names), TEXT) if names else st.just({})
    size, texts = st.integers(0), st.lists(TEXT).map(tuple)
    package = st.builds(PackageFacts, TEXT, some, TEXT, TEXT, TEXT, TEXT, texts, TEXT, texts)
    name, tag, system, source, revision = (draw(TEXT) for _ in range(5))
    return Contents(
        name,
        tag,
        system,
        source,
        revision,
        made=draw(st.floats(0, 1e12)),
        packages=tuple(draw(st.lists(package))),
        paths=tuple(PathFacts(n, draw(size), draw(some), n, draw(texts), n) for n in names),
        layers=tuple(draw(st.lists(st.builds(LayerFacts, TEXT, size, some)))),
        address=draw(TEXT),
        built=draw(some),
        substituted=draw(origins),
        programs=draw(texts),
        tools=draw(texts),
    )


@given(all_contents())
def test_contents_are_kept(found: Contents) -> None:
    """What was packed is unpacked the same, whatever the texts in it, as ASCII."""
    packed = pack_contents(found)
    assert packed.isascii()
    assert unpack_contents(packed) == found
    assert pack_contents(attrs.evolve(found)) == packed


@pytest.mark.parametrize("packed", ["", "x", "é", "eJwDAAAAAAE=", "eJyrrgUAAXUA+Q=="])
def test_anything_else_is_refused(packed: str) -> None:
    """What was never packed is an error."""
    with pytest.raises(ValueError, match=r".+"):
        unpack_contents(packed)


def test_many_paths_are_short() -> None:
    """The contents of an image of 10,000 store paths take less than 200 bytes for each."""
    paths = [f"/nix/store/{Digest.of(b'%d' % n).hex[:32]}-package-{n}-1.0" for n in range(10_000)]
    facts = tuple(
        PathFacts(path, n, tuple(paths[max(0, n - 20) : n]), f"{path}.drv", ("x-1",), path[:55])
        for n, path in enumerate(paths)
    )
    found = attrs.evolve(made_of({}), packages=(), paths=facts, layers=(), built=())
    assert len(pack_contents(found)) < 200 * len(paths)
