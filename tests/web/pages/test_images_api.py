"""The pages of images, and of two beside each other."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import pytest
import pytest_twisted

from nixery.attest.signing_keys import SigningKey
from nixery.builds.cache import Cache
from nixery.model.digest import Digest
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.memory import MemoryStorage
from nixery.web.auth import OPEN
from nixery.web.pages.images_api import ImagePages
from nixery.web.pages.page import STATIC
from nixery.web.referrers import PUBLIC_KEYS
from nixery.web.stored_images import StoredImages
from tests.attest.keys import ECDSA_KEY
from tests.history.histories import begin, open_history
from tests.web.pages.browsing import EVIL, Elements, page
from tests.web.pages.gallery import GIT, MEGA, Gallery, but, facts, showing, store_path
from tests.web.server import reactor, serving

SHELL = {"Cmd": ["bash"], "Env": ["PATH=/bin", "LANG=C.UTF-8"], "User": "1000:1000"}


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path)


def links(elements: Elements) -> set[str]:
    return {attributes.get("href", "") for attributes in elements.of("a")}


@pytest_twisted.ensureDeferred
async def test_an_image_from_the_storage(gallery: Gallery) -> None:
    """An image that is stored has a page, whether its build is remembered or not: it says what it
    is, how it is run, and what is in it, pinned by its digest."""
    manifest = await gallery.add("shell/git", run=SHELL, packages={"git": ["git-2.39.5"]})
    async with showing(gallery) as server:
        for path in ("shell/git:latest", "shell/git", f"shell/git@{manifest.digest}"):
            elements = await page(server, f"/images/{path}")
            assert f"shell/git@{manifest.digest}" in elements.text
            for fact in ("git:https://example.com/x", "1000:1000", "bash", "linux/amd64"):
                assert fact in elements.text
            assert "LANG=C.UTF-8" in elements.text
            assert "5 store paths, 96.5 MB unpacked" in elements.text
        assert "not known" in (await page(server, "/images/other:latest", 404)).text


@pytest_twisted.ensureDeferred
async def test_other_names_of_an_image(gallery: Gallery) -> None:
    """Packages may be in any order; ``library/NAME`` is ``NAME``, as in pulls, and no other name
    with ``library`` is, unless the set has a package of that name."""
    manifest = await gallery.add("git/jq")
    await gallery.add("hello")
    other = Digest.of(b"")
    async with showing(gallery) as server:
        for path, status in {
            **{"jq/git": 200, "library/hello": 200, "library/hello:latest": 200},
            **{"hello/library": 404, "library/git/jq": 404, "library/jq": 404, "HELLO": 404},
            **{"hello:v1": 404, "hello:": 200, "hello:-": 404, "a" * 300: 404},
            **{f"jq/git@{manifest.digest}": 200, f"hello@{manifest.digest}": 404},
            **{f"jq/git@{other}": 404, "jq/git@sha256:1": 404, "jq/git@": 404},
        }.items():
            assert (await server.ask(f"/images/{path}")).status == status, path
        assert "'HELLO' is not a valid" in (await page(server, "/images/HELLO", 404)).text
        await gallery.add("hello/library")
        title = (await page(server, "/images/library/hello")).text
        assert "hello/library:latest" in title


RUNS: list[tuple[dict[str, Any], list[str], list[str], list[str], bool]] = [
    ({}, [], [], [], False),
    ({"Cmd": ["bash"]}, ["git"], ["bash", "sleep"], [""], True),
    ({"Entrypoint": ["/bin/x"]}, ["y"], [], [""], True),
    ({}, ["git", "a b"], ["sh"], [" git", " 'a b'"], True),
    ({}, ["git"], ["sleep"], [" git"], True),
    ({}, ["git"], [], [" git"], False),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("run", "programs", "tools", "runs", "is_pod"), RUNS)
async def test_commands_that_an_image_can_run(
    gallery: Gallery,
    run: dict[str, Any],
    programs: list[str],
    tools: list[str],
    runs: list[str],
    is_pod: bool,
) -> None:
    """The page offers what the image starts by itself, or else its programs; a shell for other
    pods and something that sleeps where there is one; nothing that it can't run."""
    await gallery.add(run=run, programs=programs, tools=tools)
    async with showing(gallery) as server:
        host = f"127.0.0.1:{server.port}"
        elements = await page(server, "/images/git/jq")
        start = f"docker run --rm -ti {host}/git/jq"
        assert re.findall(rf"{start}(.*?)(?=Copy)", elements.text) == runs
        text = (await server.ask("/images/git/jq")).body.decode()
        shown = [line.strip() for line in text.splitlines() if "docker run" in line]
        assert shown == [f"{start}{each}" for each in runs]
        shells = [each for each in tools if each in ("bash", "sh")]
        assert re.findall(r"kubectl debug \S+ POD \S+ -- (bash|sh)", elements.text) == shells
        assert ("command: [sleep" in elements.text) == ("sleep" in tools)
        assert ("containers:" in elements.text) == ("sleep" in tools or runs == [""])
        assert ("Kubernetes" in tabs_of(elements)) == is_pod


def tabs_of(elements: Elements) -> set[str]:
    return {a["value"] for a in elements.of("input") if a.get("name") == "client"}


@pytest_twisted.ensureDeferred
async def test_an_image_of_an_older_version(gallery: Gallery) -> None:
    """Without a record of its contents, an image's page tells what manifest and config do."""
    manifest = await gallery.add(run=SHELL, described=False)
    async with showing(gallery) as server:
        elements = await page(server, "/images/git/jq")
        assert "kept no record" in elements.text
        assert "bash" in elements.text
        assert str(manifest.blobs[1].digest)[7:19] in elements.text
        answer = await server.ask("/images/git/jq")
        assert "Closure" not in answer.body.decode()
        await gallery.add("jq")
        for path in ("from=git/jq&to=jq", "from=jq&to=git/jq"):
            assert "kept no record" in (await page(server, f"/compare?{path}")).text


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("run", [[], "x", {"Cmd": "x", "Env": 3, "ExposedPorts": [], "User": None}])
async def test_odd_configs(gallery: Gallery, run: Any) -> None:
    """A config that holds what is none takes nothing but itself from the page."""
    await gallery.add(run=run)
    async with showing(gallery) as server:
        assert "5 store paths" in (await page(server, "/images/git/jq")).text


@pytest_twisted.ensureDeferred
async def test_the_map(gallery: Gallery) -> None:
    """The map has the large store paths, with a title and a link for each; the tables say the same
    to those who do not see it."""
    await gallery.add()
    async with showing(gallery) as server:
        elements = await page(server, "/images/git/jq")
    cells = [a for tag, a in elements.elements if tag == "svg" and "x" in a]
    assert len(cells) == len(GIT)
    area = sum(float(c["width"][:-1]) * float(c["height"][:-1]) for c in cells)
    assert abs(area - 100 * 100) < 50
    assert {f"?why={facts.path[44:]}#why" for facts in GIT} <= links(elements)
    assert "perl-5.36.0: 45 MB, needed by git" in elements.text
    assert "glibc-2.36: 15 MB, needed by git, jq" in elements.text
    assert "git alone" in elements.text
    assert "several packages" in elements.text
    (drawing,) = (a for tag, a in elements.elements if a.get("class") == "treemap")
    assert drawing["aria-hidden"] == "true"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("asked", "way"),
    [
        ("glibc-2.36", ["git-2.39.5", "glibc-2.36"]),
        ("perl", ["git-2.39.5", "perl-5.36.0"]),
        (store_path("perl-5.36.0"), ["git-2.39.5", "perl-5.36.0"]),
        (store_path("perl-5.36.0")[11:], ["git-2.39.5", "perl-5.36.0"]),
        ("", ["git-2.39.5", "perl-5.36.0"]),
        ("git", []),
        ("<b>none</b>", None),
    ],
)
async def test_why_something_is_there(gallery: Gallery, asked: str, way: list[str] | None) -> None:
    """The shortest way from a package to a store path is shown, by default to the largest one that
    is no package's own; a package's own has none, and an unknown name is told."""
    await gallery.add()
    async with showing(gallery) as server:
        elements = await page(server, f"/images/git/jq?why={asked}")
        answer = await server.ask(f"/images/git/jq?why={asked}", headers={"Accept": "text/html"})
    chain = re.search(r'<ol class="chain">(.*?)</ol>', answer.body.decode())
    steps = re.findall(r"<code>(.*?)</code>", chain[1]) if chain else []
    assert steps == (way or [])
    assert ("No store path of this image is called <b>none</b>" in elements.text) == (way is None)
    assert ("It is one of the packages named" in elements.text) == (asked == "git")


@pytest_twisted.ensureDeferred
async def test_layers_and_who_has_them(gallery: Gallery) -> None:
    """Layers are named by what is in them, and by other images that have them, as far as the
    client may see these."""
    await gallery.add()
    await gallery.add("jq", paths=GIT[2:])
    await gallery.add("secret", paths=GIT[:3])
    async with showing(gallery, but("secret")) as server:
        elements = await page(server, "/images/git/jq")
    assert "root file system" in elements.text
    assert "/images/jq:latest" in links(elements)
    assert "secret" not in elements.text
    kinds = [a["class"] for tag, a in elements.elements if tag == "rect" and "x" in a]
    assert kinds == ["own", "own", "common", "common", "common", "own"]


@pytest_twisted.ensureDeferred
async def test_all_of_it_as_text(gallery: Gallery) -> None:
    """What a page leaves out of its lists is there as text."""
    await gallery.add()
    async with showing(gallery) as server:
        text = (await server.ask("/images/git/jq?show=paths")).body.decode()
        assert [line.split()[1] for line in text.splitlines()] == [
            f.path for f in sorted(GIT, key=lambda f: -f.size)
        ]
        text = (await server.ask("/images/git/jq?show=layers")).body.decode()
        assert all(f.path in text for f in GIT)
        assert text.count("sha256:") == 6


@pytest_twisted.ensureDeferred
async def test_terminals(gallery: Gallery) -> None:
    """Whoever asks for no HTML gets text, whose lines fit into 80 columns, but for names to pull:
    these are whole."""
    long = "/".join(["a-package-with-a-long-name"] * 9)
    await gallery.add(about="a description that is rather long, and says nothing" * 9)
    await gallery.add(long, packages={long[:26]: ["git-2.39.5"]})
    async with showing(gallery) as server:
        for path in ("images/git/jq", f"images/{long}", "images/none", "compare?from=git/jq&to=x"):
            answer = await server.ask(f"/{path}")
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            wide = [line for line in answer.body.decode().splitlines() if len(line) > 80]
            assert all("docker" in line or line == f"{long}:latest" for line in wide)


class Unreadable(MemoryStorage):
    """A storage that says where it can't be read."""

    async def read_blob(self, digest: Digest, limit: int) -> bytes:
        raise StorageUnavailable("Input/output error ('/srv/state/storage/x')")


@pytest_twisted.ensureDeferred
async def test_no_path_of_this_machine(tmp_path: Path) -> None:
    """A page that can't be shown says why, and not where files lie."""
    gallery = Gallery(tmp_path)
    manifest = await gallery.add()
    api = StoredImages(reactor, gallery.known, Cache(Unreadable()), Unreadable(), OPEN)
    images = ImagePages(reactor, api)
    async with serving(more=[images.app]) as server:
        for path in (
            "images/git/jq",
            f"images/git/jq@{manifest.digest}",
            "compare?from=git/jq&to=git/jq",
        ):
            for accept in ("text/html", "*/*"):
                answer = await server.ask(f"/{path}", headers={"Accept": accept})
                assert answer.status == 503
                assert b"Input/output" in answer.body
                assert b"srv" not in answer.body


@pytest_twisted.ensureDeferred
async def test_documents(gallery: Gallery) -> None:
    """The page leads to the documents about the image, and to what explains them."""
    manifest = await gallery.add()
    async with showing(gallery) as server:
        found = links(await page(server, "/images/git/jq"))
        documents = [link for link in found if "/sbom" in link or "/provenance" in link]
        assert len(documents) == 3
        for link in (*documents, "/docs/attestations"):
            assert link in found
            answer = await server.ask(link)
            assert answer.status == 200
            assert str(manifest.digest)[7:] in answer.body.decode() or link not in documents
        assert "Not signed" in (await page(server, "/images/git/jq")).text
        await gallery.add("jq", described=False)
        assert "sbom" not in str(links(await page(server, "/images/jq")))


@pytest_twisted.ensureDeferred
async def test_signed_images(gallery: Gallery) -> None:
    """The page says that the image is signed, and leads to the key and to how to verify it; in a
    terminal, too."""
    await gallery.add()
    async with showing(gallery, keys=[SigningKey.of(ECDSA_KEY)]) as server:
        elements = await page(server, "/images/git/jq")
        assert "signs its images" in elements.text
        for link in (PUBLIC_KEYS, "/docs/signatures"):
            assert link in links(elements)
            assert (await server.ask(link)).status == 200
        text = (await server.ask("/images/git/jq", headers={"Accept": "*/*"})).body.decode()
        assert f"http://127.0.0.1:{server.port}{PUBLIC_KEYS}" in text


@pytest_twisted.ensureDeferred
async def test_an_image_of_several_platforms(gallery: Gallery) -> None:
    """The page of an index is about one platform, the usual one unless another is asked for; all
    its links and forms stay with that. Its own images are not others that have its layers."""
    arm = (facts("git-2.39.5", 30 * MEGA, "zlib-1.3"), facts("zlib-1.3", MEGA))
    children = {
        "linux/amd64": await gallery.add("amd64/git"),
        "linux/arm64": await gallery.add("arm64/git", paths=arm),
    }
    index = await gallery.add_index(children, "git")
    async with showing(gallery) as server:
        for query, platform, size in (
            ("", "linux/amd64", "5 store paths"),
            ("?platform=linux/amd64", "linux/amd64", "5 store paths"),
            ("?platform=linux/arm64", "linux/arm64", "2 store paths"),
        ):
            elements = await page(server, f"/images/git{query}")
            assert size in elements.text
            assert str(index.digest) in elements.text
            assert {a.get("href") for a in elements.of("a") if a.get("aria-current")} == {
                f"?platform={quote(platform, '')}"
            }
            own = [link for link in links(elements) if "why=" in link or "/sbom" in link]
            assert len(own) >= 4
            assert all(f"platform={quote(platform, '')}" in link for link in own)
            kept = {a["value"] for a in elements.of("input") if a.get("name") == "platform"}
            assert kept == {platform}
            assert f"/v2/git/manifests/{children[platform].digest}" in links(elements)
            assert "0 B also in other images" in elements.text
        why = await page(server, "/images/git?platform=linux/arm64&why=zlib")
        assert "zlib-1.3, 1 MB" in why.text
        for accept in ("text/html", "*/*"):
            path = "/images/git?platform=linux/s390x"
            answer = await server.ask(path, headers={"Accept": accept})
            assert answer.status == 400
            told = " ".join(answer.body.decode().split())
            assert "platform must be linux/amd64 or linux/arm64" in told
        assert (await server.ask("/images/amd64/git?platform=linux/amd64")).status == 200


@pytest_twisted.ensureDeferred
async def test_comparing_images_of_several_platforms(gallery: Gallery) -> None:
    """Of indexes, the images for one platform are compared, the usual one unless another is asked
    for; an image for another platform is compared with that for its own. Links stay with it."""
    arm = (facts("git-2.39.5", 30 * MEGA), facts("zlib-1.3", MEGA))
    children = {
        "linux/amd64": await gallery.add("amd64/git"),
        "linux/arm64": await gallery.add("arm64/git", paths=arm),
    }
    await gallery.add_index(children, "git")
    newer = {
        "linux/amd64": await gallery.add("amd64/jq"),
        "linux/arm64": await gallery.add("arm64/jq", paths=(*arm, facts("jq-1.6", MEGA))),
    }
    await gallery.add_index(newer, "jq")
    await gallery.add("perl")
    async with showing(gallery) as server:
        for query, platform, told in (
            ("", "linux/amd64", "Both have the same store paths"),
            ("&platform=linux/arm64", "linux/arm64", "1 added"),
        ):
            elements = await page(server, f"/compare?from=git&to=jq{query}")
            assert told in elements.text
            (shown,) = [a for a in elements.of("a") if a.get("aria-current")]
            asked = f"platform={quote(platform, '')}"
            assert shown["href"] == f"?from=git%3Alatest&to=jq%3Alatest&{asked}"
            assert f"/images/jq:latest?{asked}" in links(elements)
        answer = await server.ask("/compare?from=git&to=jq&platform=linux/s390x")
        assert answer.status == 400
        told = " ".join(answer.body.decode().split())
        assert "git:latest: the platform must be linux/amd64 or linux/arm64" in told
        assert "1 added" in (await page(server, "/compare?from=arm64/git&to=jq")).text
        different = await page(server, "/compare?from=arm64/git&to=perl")
        assert "different platforms: linux/arm64 and linux/amd64" in different.text


@pytest_twisted.ensureDeferred
async def test_an_index_that_has_the_name_of_its_image(tmp_path: Path, gallery: Gallery) -> None:
    """An index is listed once, and not its image that has its name too, which is pulled after it;
    its page leads to the build of the platform that is shown."""
    history = await open_history(tmp_path / "history")
    amd64, arm64 = await gallery.add("git"), await gallery.add("arm64/git")
    index = await gallery.add_index({"linux/amd64": amd64, "linux/arm64": arm64}, "git")
    await gallery.add("jq")
    record = begin(history, "git")
    record.done(str(amd64.digest))
    used = {str(amd64.digest): 3.0, str(index.digest): 2.0}
    every = [attrs.evolve(e, pulled=used.get(e.digest, 1.0)) for e in gallery.known.all()]
    every = [attrs.evolve(each, made=0.0) for each in every]
    gallery.known.unordered = lambda: every  # type: ignore[method-assign]
    async with showing(gallery, history=history) as server:
        listed = [a["href"] for a in (await page(server, "/")).of("a") if "/images/" in a["href"]]
        assert sorted(listed) == [
            "/images/arm64/git:latest",
            "/images/git:latest",
            "/images/jq:latest",
        ]
        assert listed[0] == "/images/git:latest"
        elements = await page(server, "/images/git")
        assert "another image" not in elements.text
        assert f"/builds/{record.id}" in links(elements)
        elements = await page(server, "/images/git?platform=linux/arm64")
        assert f"/builds/{record.id}" not in links(elements)
    await history.stop()


@pytest_twisted.ensureDeferred
async def test_an_image_that_was_removed(gallery: Gallery) -> None:
    """An image whose manifest is no longer stored is told to be gone, and not to come back by
    itself."""
    manifest = await gallery.add("jq")
    gallery.storage.blobs.pop(manifest.digest)
    gallery.cache._by_digest.forget(manifest.digest)
    async with showing(gallery) as server:
        for path in ("/images/jq", "/compare?from=jq&to=jq"):
            assert "not stored any more" in (await page(server, path, 404)).text


@pytest_twisted.ensureDeferred
async def test_tags_and_builds(tmp_path: Path, gallery: Gallery) -> None:
    """The page leads to the build that made the image, and to other tags of its name."""
    history = await open_history(tmp_path / "history")
    old = await gallery.add("git/jq", "v1", revision="0")
    new = await gallery.add("git/jq", "latest", revision="1")
    record = begin(history, "git/jq")
    record.done(str(new.digest))
    async with showing(gallery, history=history) as server:
        elements = await page(server, "/images/git/jq")
        assert {f"/builds/{record.id}", "/images/git/jq:v1"} <= links(elements)
        elements = await page(server, "/images/git/jq:v1")
        assert str(old.digest) in elements.text
        assert f"/builds/{record.id}" not in links(elements)


@pytest_twisted.ensureDeferred
async def test_images_that_may_not_be_pulled(gallery: Gallery) -> None:
    """An image that the client may not pull is as one that is not there: by name, by digest, and
    beside another one."""
    manifest = await gallery.add("git")
    await gallery.add("jq")
    async with showing(gallery, but("git")) as server:
        for path in ("git", f"git@{manifest.digest}"):
            assert "not known" in (await page(server, f"/images/{path}", 404)).text
        for query in ("from=git&to=jq", "from=jq&to=git", f"from=jq&to=git@{manifest.digest}"):
            shown = await page(server, f"/compare?{query}", 404)
            assert "No stored image" in shown.text
    async with showing(gallery, but(tags=["v1"])) as server:
        old = await gallery.add("git", "v1", revision="old")
        elements = await page(server, "/images/git")
        assert "/images/git:v1" not in links(elements)
        for hidden in ("git:v1", f"git@{old.digest}"):
            assert (await server.ask(f"/images/{hidden}")).status == 404


@pytest_twisted.ensureDeferred
async def test_hostile_text(gallery: Gallery) -> None:
    """Names, versions and descriptions are text, in pictures too."""
    evil = attrs.evolve(GIT[0], path=f"{store_path('x')}{EVIL}", references=())
    run = {"Cmd": [EVIL], "User": EVIL, "Env": [EVIL], "ExposedPorts": {EVIL: {}}, "Labels": {}}
    await gallery.add(paths=(evil, *GIT[1:]), run=run, programs=[EVIL], revision=EVIL, about=EVIL)
    await gallery.add("jq", revision=EVIL)
    async with showing(gallery) as server:
        for path in ("images/git/jq", "compare?from=git/jq&to=jq", f"images/git/jq?why={EVIL}"):
            elements = await page(server, f"/{path.replace(chr(27), '%1b').replace('#', '%23')}")
            assert "alert(1)" in elements.text
            assert len(elements.of("script")) == 1
        for path in ("images/git/jq", "images/git/jq?show=paths", "compare?from=git/jq&to=jq"):
            assert b"\x1b" not in (await server.ask(f"/{path}")).body


@pytest_twisted.ensureDeferred
async def test_comparison(gallery: Gallery) -> None:
    """Two images: what came, what went, what has another version, and how much there is to pull for
    who has the first; both ways."""
    newer = (
        facts("git-2.40.0", 36 * MEGA, "perl-5.36.0", "glibc-2.36"),
        GIT[1],
        GIT[2],
        facts("zlib-1.2", MEGA),
    )
    await gallery.add("git/jq", "v1")
    await gallery.add("git/jq", "v2", newer, {"git": ["git-2.40.0"]}, revision="2")
    async with showing(gallery) as server:
        text = (await server.ask("/compare?from=git/jq:v1&to=git/jq:v2")).body.decode()
        assert "in 3 layers" in text
        for kind, row in {
            "Upgraded: 1": r"git +2.39.5 → 2.40.0 +\+1 MB",
            "Added: 1": r"zlib +1.2 +1 MB",
            "Removed: 2": r"jq +1.6 +1 MB",
        }.items():
            assert kind in text
            assert re.search(row, text)
        elements = await page(server, "/compare?from=git/jq:v2&to=git/jq:v1")
        assert "Downgraded" in elements.text
        assert "2.40.0 → 2.39.5" in elements.text
        same = await page(server, "/compare?from=git/jq:v1&to=git/jq:v1")
        assert "Both have the same store paths" in same.text
        assert "nothing to pull" in same.text


@pytest_twisted.ensureDeferred
async def test_comparing_what_is_not_there(gallery: Gallery) -> None:
    """The form is there to be filled in, and says what was wrong."""
    await gallery.add()
    async with showing(gallery) as server:
        elements = await page(server, "/compare")
        assert {a.get("name") for a in elements.of("input")} >= {"from", "to"}
        elements = await page(server, "/compare?from=git/jq&to=x%3Cb%3E", 404)
        assert "No stored image is called x<b>" in elements.text
        fields = {a.get("id"): a.get("value") for a in elements.of("input")}
        assert fields["compare-from"] == "git/jq"
        assert (await server.ask("/compare?from=x&to=y")).status == 404


@pytest_twisted.ensureDeferred
async def test_pages_are_small(gallery: Gallery) -> None:
    """The page of an image of 3,000 store paths in 120 layers, and a comparison with another, have
    less than 60 KB with their style."""
    paths = tuple(
        facts(f"some-package-with-a-long-name-{n}-1.{n}.{n}", n * n, f"some-package-{n}")
        for n in range(3000)
    )
    paths = tuple(attrs.evolve(each, references=()) for each in paths)
    named = {f"p{n}": [paths[n].path[44:]] for n in range(40)}
    rest = {"p40": [each.path[44:] for each in paths[40:]]}
    await gallery.add("/".join(f"p{n}" for n in range(41)), paths=paths, packages={**named, **rest})
    await gallery.add("jq")
    name = "/".join(sorted(f"p{n}" for n in range(41)))
    style = len(STATIC["style.css"].content)
    async with showing(gallery) as server:
        for path in (f"images/{name}", f"compare?from=jq&to={name}"):
            answer = await server.ask(f"/{path}", headers={"Accept": "text/html"})
            assert answer.status == 200
            assert len(answer.body) + style < 60_000
