"""What images are signed with, as settings name it."""

import attrs

from nixery.model.setting import matching, setting


def _paths(text: str) -> tuple[str, ...]:
    paths = tuple(text.split())
    if not all(path.startswith("/") for path in paths):
        raise ValueError("absolute paths, with spaces between")
    return paths


_host = matching(
    r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?(?:/[a-z0-9][a-z0-9._/-]*)?",
    "a host in lower case, with its port if clients name it: registry.example.com:5000",
)


@attrs.frozen
class Signing:
    """What images are signed with; each may be missing.

    :param keys: Private keys that images and what is attached to them are signed with: PEM files,
        ECDSA P-256 or Ed25519, with spaces between. Each signs; while keys are changed there are
        two.
    :param host: Host by which clients pull, with its port if they name it: provenance names it as
        the builder, and signatures name it with the image (the image's name alone).
    """

    keys: tuple[str, ...] = setting("NIXERY_SIGNING_KEY", _paths, unset=())
    host: str = setting("NIXERY_SIGNING_HOST", _host, unset="")
