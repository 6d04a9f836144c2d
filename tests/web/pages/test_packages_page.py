"""The pages of packages: what is found, and each of them."""

import json
from pathlib import Path

import attrs
import pytest
import pytest_twisted

from nixery.history.history import History
from nixery.model.package_set import Package
from nixery.web.pages.page import STATIC
from tests.web.fake_catalogue import FOUND, RIPGREP, FakeCatalogue
from tests.web.pages.browsing import EVIL, HTML, page
from tests.web.pages.gallery import GIT, MEGA, Gallery, but, facts, showing
from tests.web.pages.test_images_api import links

JQ = Package(
    path=("jq",),
    image="jq",
    name="jq-1.6",
    version="1.6",
    description="a sed for JSON",
    homepage="https://jq.example/",
    program="jq",
    outputs=("bin", "man"),
    licences=("MIT",),
)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery(tmp_path)


def having(*packages: Package) -> FakeCatalogue:
    return FakeCatalogue(found=attrs.evolve(FOUND, packages=packages))


@pytest_twisted.ensureDeferred
async def test_what_is_found(gallery: Gallery, history: History) -> None:
    """A browser gets a page of the same packages that programs get as JSON: with version, programs
    and a link to each; names that others wrote are text."""
    async with showing(gallery, history=history) as server:
        elements = await page(server, "/packages?q=rip%3Cb%3E")
        assert "<script>alert('é')</script>" in elements.text
        assert "14.0" in elements.text
        assert "rip<b>" in elements.text
        assert "7 packages of folder:set" in elements.text
        assert "/packages/ripgrep" in links(elements)
        (field,) = (a for a in elements.of("input") if a.get("name") == "q")
        assert field["value"] == "rip<b>"
        answer = await server.ask("/packages?q=rip")
        assert json.loads(answer.body)["packages"][0]["name"] == "ripgrep"
        assert answer.headers["vary"] == "Accept, Authorization"
        assert "must have at most" in (await page(server, f"/packages?q={'x' * 300}", 400)).text


@pytest_twisted.ensureDeferred
async def test_images_are_found(gallery: Gallery) -> None:
    """A search finds the images that have all its words in their names, in any order and with the
    tag if one is named, the most fitting first, as far as the client may see them; of a name that
    is not stored it leads to how it is pulled."""
    for name in ("git/hello/jq", "git/jq", "jq"):
        await gallery.add(name)
    await gallery.add("git/secret")
    await gallery.add("git/jq", "v1", revision="0")
    async with showing(gallery, but("secret")) as server:
        host = f"127.0.0.1:{server.port}"
        for query, found in {
            "jq": ["jq:latest", "git/jq:v1", "git/jq:latest", "git/hello/jq:latest"],
            "jq/git": ["git/jq:v1", "git/jq:latest", "git/hello/jq:latest"],
            "GIT%20jq:v1": ["git/jq:v1"],
            f"docker%20pull%20{host}/jq:v3": [],
            "git/secret": [],
            "jq:v2": [],
            "": [],
        }.items():
            elements = await page(server, f"/packages?q={query}")
            links_ = [a["href"] for a in elements.of("a") if a["href"].startswith("/images/")]
            assert sorted(links_) == sorted(f"/images/{each}" for each in found), query
            counts = [link.count("/") for link in links_]
            assert counts == sorted(counts)
            named = [link for link in links(elements) if link.startswith("/?q=")]
            assert bool(named) == (not found and query != ""), query
        assert "/?q=git%2Fsecret" in links(await page(server, "/packages?q=git/secret"))
        assert "How to pull" not in (await page(server, "/packages?q=_/x")).text


@pytest_twisted.ensureDeferred
async def test_an_index_that_is_being_made(gallery: Gallery) -> None:
    """A browser looks again while there is no index, and is told why there is none."""
    catalogue = FakeCatalogue(found=attrs.evolve(FOUND, ready=False, packages=(), fault="no room"))
    async with showing(gallery, catalogue=catalogue) as server:
        for path, status in (("/packages?q=x", 200), ("/packages/x", 202)):
            elements = await page(server, path, status)
            assert [a for a in elements.of("meta") if a.get("http-equiv") == "refresh"]
            assert not elements.of("noscript")  # which nobody with scripts would see
            assert "no room" in elements.text


@pytest_twisted.ensureDeferred
async def test_nothing_is_found(gallery: Gallery) -> None:
    """Words that fit nothing are told; a name that no package has is an error."""
    async with showing(gallery, catalogue=having()) as server:
        assert "No package matches" in (await page(server, "/packages?q=x")).text
        for path in ("x", "x/y", "%3Cscript%3E", "a" * 400):
            assert "not known" in (await page(server, f"/packages/{path}", 404)).text
            assert (await server.ask(f"/packages/{path}")).status == 404


@pytest_twisted.ensureDeferred
async def test_a_package(gallery: Gallery) -> None:
    """It has what the set says of it, its versions in the images of several tags, and these images;
    by attribute path and as images write it."""
    newer = (facts("jq-1.7", 2 * MEGA, "glibc-2.36"), GIT[2])
    await gallery.add("git/jq", "v1")
    await gallery.add("jq", "v2", newer, {"jq": ["jq-1.7"]}, revision="2" * 40)
    await gallery.add("hello")
    async with showing(gallery, catalogue=having(JQ)) as server:
        elements = await page(server, "/packages/jq")
        for fact in ("a sed for JSON", "MIT", "bin, man", "16 MB", "17 MB", "v1", "2" * 12):
            assert fact in elements.text
        assert f"docker pull 127.0.0.1:{server.port}/jq" in elements.text
        assert {"/images/git/jq:v1", "/images/jq:v2", "https://jq.example/"} <= links(elements)
        assert "/images/hello:latest" not in links(elements)
        text = (await server.ask("/packages/jq")).body.decode()
        assert "a sed for JSON" in text
        assert "git/jq:v1" in text


@pytest_twisted.ensureDeferred
async def test_a_package_that_no_index_has(gallery: Gallery) -> None:
    """A package that is in images alone has what these tell of it, as one of a meta-package has."""
    await gallery.add("git", about="of the image")
    bash = {"bashInteractive": ["jq-1.6"]}
    await gallery.add("shell/jq", packages={**bash, "jq": ["jq-1.6"]})
    async with showing(gallery, catalogue=having()) as server:
        assert "of the image" in (await page(server, "/packages/git")).text
        assert "/images/shell/jq:latest" in links(await page(server, "/packages/bashInteractive"))


@pytest_twisted.ensureDeferred
async def test_what_may_not_be_pulled(gallery: Gallery) -> None:
    """A package that the client may not pull is as one that is not there, and so are images and
    tags."""
    await gallery.add("jq")
    await gallery.add("git/jq")
    await gallery.add("jq", "v2", revision="2")
    async with showing(gallery, but("jq"), catalogue=having(JQ)) as server:
        assert (await server.ask("/packages/jq", headers=HTML)).status == 404
        assert "jq" not in (await server.ask("/packages?q=", headers=HTML)).body.decode()
    async with showing(gallery, but("git", tags=["v2"]), catalogue=having(JQ)) as server:
        elements = await page(server, "/packages/jq")
        assert "/images/jq:latest" in links(elements)
        assert not {"/images/jq:v2", "/images/git/jq:latest"} & links(elements)


@pytest_twisted.ensureDeferred
async def test_hostile_text(gallery: Gallery) -> None:
    """Whatever a package says of itself is text, and leads nowhere but to web pages."""
    text = EVIL.replace("\x1b", "")
    evil = attrs.evolve(
        JQ,
        description=text * 100,
        version=text,
        homepage="javascript:alert(1)",
        outputs=(text,),
        licences=(text,) * 20,
        programs=(text,) * 500,
    )
    await gallery.add("jq", about=EVIL, revision=EVIL)
    async with showing(gallery, catalogue=having(evil)) as server:
        for path in ("/packages/jq", "/packages?q=jq"):
            elements = await page(server, path)
            assert "<script>alert(1)</script>" in elements.text
            assert "javascript:alert(1)" not in links(elements)
            assert len(elements.of("script")) == 1


@pytest_twisted.ensureDeferred
async def test_pages_are_small(gallery: Gallery) -> None:
    """The page of many results, and of a package in many images, have less than 60 KB with their
    style."""
    words = "a description that is as long as descriptions may be, of several lines " * 14
    many = [
        attrs.evolve(RIPGREP, image=f"ripgrep{n}", description=words, programs=(f"rg{n}",) * 500)
        for n in range(100)
    ]
    for number in range(40):
        await gallery.add("git/jq", f"v{number}", revision=str(number) * 40, about=words)
    style = len(STATIC["style.css"].content)
    async with showing(gallery, catalogue=having(*many)) as server:
        for path in ("/packages?q=x&n=100", "/packages/jq"):
            answer = await server.ask(path, headers=HTML)
            assert answer.status == 200
            assert len(answer.body) + style < 60_000, path
