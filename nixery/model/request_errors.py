"""What is wrong with what was asked for, or with who asks."""

import attrs

from nixery.model.errors import NixeryError


@attrs.define
class NameInvalid(NixeryError):
    """The image name is outside the grammar or its limits."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"the image name {self.name[:80]!r} is not valid: {self.reason}"


@attrs.define
class ImageInvalid(NameInvalid):
    """The name is within the grammar, but no image can be made for it."""


@attrs.define
class TagInvalid(NixeryError):
    """The tag is outside the registry's grammar."""

    tag: str

    def __str__(self) -> str:
        return (
            f"the tag {self.tag[:80]!r} is not valid: a tag has up to 128 letters, digits, "
            "'_', '.' and '-', and must not start with '.' or '-'"
        )


@attrs.define
class DigestInvalid(NixeryError):
    """A digest is not of the form ``sha256:<64 hexadecimal digits>``."""

    digest: str

    def __str__(self) -> str:
        return (
            f"{self.digest[:90]!r} is not a digest; expected sha256: followed by 64 lower-case "
            "hexadecimal digits"
        )


@attrs.define
class RangeInvalid(NixeryError):
    """A byte range starts behind the end of the blob.

    :param size: the blob's size in bytes.
    """

    _message = "the range starts past the end of the blob, which has {0.size} bytes"
    size: int


@attrs.define
class UnknownTag(NixeryError):
    """The package source has no revision of that name."""

    _message = "there is no revision {0.tag!r} in {0.source}"
    tag: str
    source: str


@attrs.define
class CommitNotServed(UnknownTag):
    """No branch or tag that is served reaches a commit: it may be another's, or not exist."""

    _message = (
        "the commit {0.tag} is not in the history of any branch or tag of {0.source} that this "
        "registry serves"
    )


@attrs.define
class TooManyTags(NixeryError):
    """One client asks for too many tags that must be looked for.

    :param count: how many are being looked for.
    """

    _message = "{0.count} tags are already being looked up for this client; try again in a moment"
    count: int


@attrs.define
class TagNotServed(NixeryError):
    """The operator does not allow that tag."""

    _message = "this registry does not serve the tag {0.tag!r}; it always serves 'latest'"
    tag: str


@attrs.define
class ManifestUnknown(NixeryError):
    """No manifest of that digest is stored."""

    _message = "this registry has no manifest {0.reference}"
    reference: str


@attrs.define
class BlobUnknown(NixeryError):
    """No blob of that digest is stored, or what was stored turned out to be damaged."""

    _message = "this registry has no blob {0.digest}; pull the image by its tag to rebuild it"
    digest: str


@attrs.define
class Unauthorized(NixeryError):
    """Credentials are needed, or those that were sent are not right.

    :param reason: what else there is to say; it says nothing about any user.
    """

    reason: str = ""

    def __str__(self) -> str:
        return f"authentication required{'; ' if self.reason else ''}{self.reason}"


@attrs.define
class Denied(NixeryError):
    """A user may not pull an image.

    :param image: its name, and its tag if it was asked for by one.
    """

    _message = "you are not allowed to pull {0.image}"
    image: str


@attrs.define
class TooManyAttempts(NixeryError):
    """A client tries more passwords than are checked.

    :param seconds: after which it may try again.
    """

    _message = "too many failed logins from your address; try again in {0.seconds} s"
    seconds: int
