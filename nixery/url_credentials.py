"""User and password in a URL, which treq and Twisted do not take there."""

from urllib.parse import unquote, urlsplit


def split_credentials(url: str) -> tuple[str, tuple[str, str] | None]:
    """Take the user and the password out of a URL.

    :return: the URL without them; and both, as treq takes them for ``auth``, if there are any.
    """
    parts = urlsplit(url)
    told, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = told.partition(":")
    return parts._replace(netloc=host).geturl(), (unquote(user), unquote(password))
