"""Names of images, as commands take them."""

import re
from typing import Any
from urllib.parse import quote

import click

from nixery.cli.exits import USAGE, CommandFailed

_HOST = re.compile(r"^(docker://)?([^/]*:[0-9]+/|localhost/)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageName(click.ParamType[str]):
    """A name with a tag or digest, or with neither: ``shell/git:latest``, ``git@sha256:…``.

    The value is the name with its tag; a registry's host before it is taken off.
    """

    name = "name"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> str:
        from nixery.model.image import parse_image
        from nixery.model.request_errors import NameInvalid, TagInvalid

        name, tag, digest = split(str(value))
        try:
            parse_image(name, tag)
        except (NameInvalid, TagInvalid) as error:
            self.fail(str(error), parameter, context)
        if digest is None:
            return f"{name}:{tag}"
        if not _DIGEST.fullmatch(digest):
            self.fail(f"{digest[:90]!r} is not a digest", parameter, context)
        return f"{name}@{digest}"


def split(text: str) -> tuple[str, str, str | None]:
    """A name, its tag (``latest`` if it has none), and its digest if it has one.

    What is before the first slash is a host if it ends with a port, or is ``localhost``.
    """
    from nixery.model.image import split_reference

    return split_reference(_HOST.sub("", text))


def with_tag(text: str) -> tuple[str, str]:
    """A name and its tag, where builds are meant: a digest has none.

    :raises CommandFailed: if it has a digest.
    """
    name, tag, digest = split(text)
    if digest is not None:
        raise CommandFailed("an image is named by its tag here, not by its digest", USAGE)
    return name, tag


def image_path(name: str) -> str:
    """The path of an image in the daemon's API.

    :param name: as :class:`ImageName` gives it.
    """
    return f"/api/images/{quote(name, safe='/:@')}"
