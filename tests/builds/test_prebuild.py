"""Images that are made in advance."""

from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from nixery.builds.known_images import KnownImages
from nixery.builds.prebuild import Prebuild
from nixery.model.build_errors import BuildFailed
from nixery.model.image import AMD64, ARM64, parse_image
from nixery.model.limits import BuildLimits
from nixery.model.service_errors import NixUnavailable, SourceUnavailable
from nixery.model.wanted_ahead import WantedAhead, read_wanted
from tests.builds.fakes import Parts, make_parts
from tests.waiting import until
from tests.web.test_v2 import example

reactor: Any = _reactor


class Ahead:
    """A builder, and what makes images in advance."""

    def __init__(self, folder: Path, wanted: str, denied: str = "", **more: Any) -> None:
        limits = BuildLimits(at_once=more.pop("at_once", 4), failure_ttl=0)
        self.parts: Parts = make_parts(str(folder), limits=limits, **more)
        parts = self.parts
        self.images = KnownImages(reactor, parts.storage, parts.cache, str(folder))
        self.prebuild = Prebuild(
            reactor,
            parts.builder,
            self.images,
            read_wanted(wanted) if wanted else WantedAhead(),
            lambda image: image.name != denied,
        )

    @property
    def made(self) -> list[str]:
        return [image.name for image in self.parts.nix.asked]

    async def pull(self, name: str, times: int = 1) -> None:
        pull = await self.parts.builder.manifest(parse_image(name, "latest"))
        for _ in range(times):
            self.images.pulled(str(pull.manifest.digest), "latest")

    async def stop(self) -> None:
        await self.prebuild.stop()
        await self.parts.builder.stop()


@pytest_twisted.ensureDeferred
async def test_each_revision(tmp_path: Path) -> None:
    """The images that were named are made once for each revision, in order."""
    ahead = Ahead(tmp_path, "git, shell/htop")
    for revision in ("1", "2"):
        ahead.parts.resolver.revision = revision
        ahead.parts.nix.asked.clear()
        for _ in range(2):
            await ahead.prebuild.look()
        assert ahead.made == ["git", "shell/htop"]
    await ahead.pull("git")
    assert len(ahead.made) == 2
    await ahead.stop()


@pytest_twisted.ensureDeferred
async def test_most_pulled(tmp_path: Path) -> None:
    """When the source is pushed to, it is asked at once, and the images that are pulled most are
    made of the new revision; what was not pulled is not, nor what nobody may pull."""
    ahead = Ahead(tmp_path, "most-pulled:3", denied="denied")
    for times, name in enumerate(("e", "d", "c", "b", "denied", "a")):
        await ahead.pull(name, times)
    ahead.parts.nix.asked.clear()
    ahead.parts.resolver.revision = "2"
    await ahead.prebuild.pushed()
    assert ahead.parts.resolver.refreshed == 1
    assert ahead.made == ["a", "b"]
    await ahead.stop()


@pytest_twisted.ensureDeferred
async def test_most_pulled_indexes(tmp_path: Path) -> None:
    """An index counts as one image, though clients pull that of their platform behind it; an image
    that was asked for by its platform alone counts as another."""
    ahead = Ahead(tmp_path, "most-pulled:3", systems=(AMD64, ARM64))
    for name, times in (("git", 4), ("htop", 2)):
        pull = await ahead.parts.builder.manifest(parse_image(name, "latest"))
        for _ in range(times):
            ahead.images.pulled(str(pull.manifest.digest), "latest")
            for child in pull.manifest.children:
                ahead.images.pulled(str(child.digest), "")
    await ahead.pull("arm64/jq")
    ahead.parts.nix.asked.clear()
    ahead.parts.resolver.revision = "2"
    await ahead.prebuild.pushed()
    assert sorted(ahead.made) == ["arm64/git", "arm64/htop", "arm64/jq", "git", "htop"]
    await ahead.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_amid_a_look(tmp_path: Path) -> None:
    """A push while images are made has those of the newer revision made afterwards."""
    ahead = Ahead(tmp_path, "git htop")
    nix = ahead.parts.nix
    nix.gate = Deferred()
    looking = ahead.prebuild.look()
    await until(lambda: ahead.made == ["git"])
    ahead.parts.resolver.revision = "2"
    pushed = Deferred.fromCoroutine(ahead.prebuild.pushed())
    gate, nix.gate = nix.gate, None
    gate.callback(None)
    await looking
    await pushed
    assert ahead.made == ["git", "htop", "git"]
    await ahead.stop()


@pytest_twisted.ensureDeferred
async def test_failures_are_told_once(tmp_path: Path) -> None:
    """An image that can't be made is told once, not tried again until there is a new revision, and
    keeps no other from being made."""
    ahead = Ahead(tmp_path, "git htop")
    ahead.parts.nix.error = example(BuildFailed)
    with capturedLogs() as logged:
        for _ in range(3):
            await ahead.prebuild.look()
    told = [formatEvent(event) for event in logged if "in advance" in formatEvent(event)]
    assert len(told) == 2
    assert "git:latest was not made in advance: " in told[0]
    assert ahead.made == ["git", "htop"]
    ahead.parts.nix.error, ahead.parts.resolver.revision = None, "2"
    await ahead.prebuild.look()
    assert len(ahead.made) == 4
    await ahead.stop()


@pytest_twisted.ensureDeferred
async def test_what_may_pass(tmp_path: Path) -> None:
    """What fails for a reason that may pass, of Nix or of the source, is tried again."""
    ahead = Ahead(tmp_path, "git")
    ahead.parts.resolver.error = SourceUnavailable("the source", "it is a test")
    await ahead.prebuild.look()
    await ahead.prebuild.pushed()
    ahead.parts.resolver.error = None
    ahead.parts.nix.error = NixUnavailable("it is a test")
    await ahead.prebuild.look()
    ahead.parts.nix.error = None
    await ahead.prebuild.look()
    assert ahead.made == ["git", "git"]
    await ahead.pull("git")
    assert len(ahead.made) == 2
    await ahead.stop()


@pytest_twisted.ensureDeferred
async def test_who_waits_goes_first(tmp_path: Path) -> None:
    """A client's build takes the turn of one that is made in advance, which is made afterwards; one
    that a client waits for is not stopped."""
    ahead = Ahead(tmp_path, "git", at_once=1)
    nix = ahead.parts.nix
    nix.gate = Deferred()
    looking = ahead.prebuild.look()
    await until(lambda: ahead.made == ["git"])
    assert [ahead.parts.history.waiting(h.id) for h in ahead.parts.history.running()] == [0]
    pulling = Deferred.fromCoroutine(ahead.pull("htop"))
    await until(lambda: ahead.made == ["git", "htop"])
    gate, nix.gate = nix.gate, None
    gate.callback(None)
    await pulling
    await looking
    assert ahead.made == ["git", "htop", "git"]
    await ahead.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_without_anything_to_make(tmp_path: Path) -> None:
    """A push has the source asked also where nothing is made in advance."""
    ahead = Ahead(tmp_path, "")
    await ahead.prebuild.pushed()
    assert ahead.parts.resolver.refreshed == 1
    await ahead.stop()
