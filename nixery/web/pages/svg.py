"""Elements of pictures."""

from twisted.web.template import Tag


def shape(name: str, *contents: Tag | str, **attributes: str) -> Tag:
    """An element of SVG.

    :param attributes: by their names, with ``_`` for ``-``, and behind a word of Python's.
    """
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    return Tag(name)(*contents, **named)


def picture(kind: str, *contents: Tag | str) -> Tag:
    """A picture that is not for screen readers: what it shows stands beside it as text.

    :param kind: its class in the stylesheet.
    """
    return shape("svg", *contents, class_=kind, aria_hidden="true", focusable="false")
