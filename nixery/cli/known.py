"""The images that are known: asked of the daemon, or read from the state folder without one."""

import json
import os
from typing import Any

from nixery.cli.client import Client
from nixery.cli.exits import NOT_FOUND, CommandFailed
from nixery.cli.names import image_path, split
from nixery.cli.places import Place

_INDEX = "images.jsonl"
_PAGE = 10_000


def known_images(place: Place) -> list[dict[str, Any]]:
    """The images that are known, those that were used last first.

    :raises CommandFailed: if there is neither a daemon nor a list in the state folder.
    """
    if place.address() is not None:
        client, images, after = Client(place), list[dict[str, Any]](), ""
        while page := client.get("/api/images", n=_PAGE, after=after)["images"]:
            images += page
            if len(page) < _PAGE:
                break
            after = page[-1]["digest"]
        return images
    return _stored(place)


def known_image(place: Place, name: str) -> dict[str, Any]:
    """An image, with all that is known of it: less without a daemon.

    :param name: as :class:`nixery.cli.names.ImageName` gives it.
    :raises CommandFailed: if it is not known.
    """
    if place.address() is not None:
        image: dict[str, Any] = Client(place).get(image_path(name))
        return image
    wanted, tag, digest = split(name)
    for image in _stored(place):
        if image["digest"] == digest or (
            not digest and (image["name"], tag) in ((wanted, each) for each in image["tags"])
        ):
            return image
    raise CommandFailed(
        f"{name} is not stored here; 'nixery pull-ready {name}' makes it", NOT_FOUND
    )


def _stored(place: Place) -> list[dict[str, Any]]:
    """What the daemon wrote down when it was stopped, or some minutes before it died."""
    path = os.path.join(place.state or "", _INDEX)
    try:
        with open(path, encoding="ascii") as file:
            images = [json.loads(line) for line in file]
    except FileNotFoundError:
        raise place.absent() from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise CommandFailed(f"{path} can't be read: {reason}") from None
    return sorted(images, key=lambda image: max(image["made"], image["pulled"]), reverse=True)
