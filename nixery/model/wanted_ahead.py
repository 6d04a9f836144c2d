"""Which images are made before anybody asks for them, as an operator writes it."""

import re

import attrs

from nixery.model.errors import NixeryError
from nixery.model.image import Image, parse_image
from nixery.model.tags import LATEST

_MOST_PULLED = re.compile(r"most-pulled:([1-9][0-9]{0,3})")
_MOST = 1000
_EXPECTED = (
    "names of images with spaces or commas between them, such as 'shell/git htop:nixos-24.05', and "
    "most-pulled:N for the N that were pulled most lately"
)


@attrs.frozen
class WantedAhead:
    """The images that are made for each new revision.

    :param images: that were named.
    :param most_pulled: how many others, of those that were pulled most lately.
    """

    images: tuple[Image, ...] = ()
    most_pulled: int = 0

    def __bool__(self) -> bool:
        return bool(self.images or self.most_pulled)


NOTHING_AHEAD = WantedAhead()


def read_wanted(text: str) -> WantedAhead:
    """Read what an operator wrote.

    :raises ValueError: if it is not understood; says what is expected.
    """
    images, most_pulled = [], 0
    for word in text.replace(",", " ").split():
        if (match := _MOST_PULLED.fullmatch(word)) is not None:
            most_pulled = max(most_pulled, int(match[1]))
            continue
        name, colon, tag = word.partition(":")
        if name == "most-pulled" and colon:
            raise ValueError(_EXPECTED)
        try:
            images.append(parse_image(name, tag if colon else LATEST))
        except NixeryError:
            raise ValueError(_EXPECTED) from None
    if len(images) + most_pulled > _MOST:
        raise ValueError(f"at most {_MOST} images")
    return WantedAhead(tuple(dict.fromkeys(images)), most_pulled)
