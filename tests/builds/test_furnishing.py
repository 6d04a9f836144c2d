"""What is in an image's root file system."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import pytest_twisted

from nixery.builds.making import list_outputs
from nixery.model.errors import TooManyFiles
from nixery.model.image import parse_image
from nixery.model.source import Contents, Folder, PinnedSource
from nixery.packing.listing import weight
from nixery.packing.tar import Entry
from tests.builds.fakes import Parts, make_parts, store_path

DATABASE = "nix/var/nix/db/db.sqlite"


async def furnished(parts: Parts, name: str) -> dict[str, Entry]:
    """The entries of an image's top layer."""
    await parts.builder.manifest(parse_image(name, "latest"))
    return {entry.name: entry for job in parts.packers.jobs for entry in job.entries}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("name", "owner"), [("nix-store", 0), ("user/nix-store", 1000)])
async def test_an_image_that_has_nix(tmp_path: Path, name: str, owner: int) -> None:
    """All store paths of an image that has Nix are registered, for its user, and none else."""
    entries = await furnished(make_parts(str(tmp_path)), name)
    assert entries[DATABASE].owner == owner
    database = tmp_path / "db.sqlite"
    database.write_bytes(entries[DATABASE].content)
    with closing(sqlite3.connect(database)) as opened:
        found = [path for (path,) in opened.execute("SELECT path FROM ValidPaths")]
    paths = [store_path("nix-store-1.0"), store_path("libc-2.0")]
    assert sorted(found) == sorted(paths)
    roots = [entry.target for name, entry in entries.items() if "/gcroots/image/" in name]
    assert roots == paths[:1]


@pytest_twisted.ensureDeferred
async def test_an_image_without_nix(tmp_path: Path) -> None:
    """The store is asked for no registration, and the image has none, where Nix is not."""
    parts = make_parts(str(tmp_path))
    assert DATABASE not in await furnished(parts, "git")
    assert parts.nix.asked_for_registration == 0


@pytest_twisted.ensureDeferred
async def test_all_packages_share_a_limit(tmp_path: Path) -> None:
    """What may be listed of an image's packages is a limit of all of them together."""
    nix = make_parts(str(tmp_path)).nix
    pinned = PinnedSource(Folder("/some/set"), Contents("/some/set", "1"))
    realised = await nix.realise(parse_image("git/jq", "latest"), pinned, lambda event: None)
    listings = [output.listing for output in list_outputs(realised, nix.physical)]
    together = sum(map(weight, listings))
    assert len(list_outputs(realised, nix.physical, together)) == len(listings) == 2
    with pytest.raises(TooManyFiles):
        list_outputs(realised, nix.physical, together - 1)
