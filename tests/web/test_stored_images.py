"""Images that are stored, as clients may see them."""

import threading
from pathlib import Path
from typing import ClassVar

import attrs

from nixery.model.digest import Digest
from nixery.model.image_summary import ImageSummary
from tests.web.pages.gallery import Gallery, showing

HTML = {"Accept": "text/html"}


@attrs.frozen
class Watched(ImageSummary):
    """The summary of an image, which notes the threads that put it in order."""

    threads: ClassVar = set[int]()

    @property
    def used(self) -> float:
        self.threads.add(threading.get_ident())
        return super().used


async def test_images_are_put_in_order_in_a_thread(tmp_path: Path) -> None:
    """However many images are known: to put them in order does not hold the reactor up."""
    gallery = Gallery(tmp_path)
    for number in range(9):
        digest = str(Digest.of(b"%d" % number))
        gallery.cache.on_made(
            Watched(digest, f"git/q{number}", ("latest",), ("linux/amd64",), made=1.0 + number)
        )
    Watched.threads.clear()
    async with showing(gallery) as server:
        told = (await server.ask("/", headers=HTML)).body.decode()
        assert "git/q8" in told.replace("<wbr />", "")
    assert Watched.threads
    assert threading.get_ident() not in Watched.threads
