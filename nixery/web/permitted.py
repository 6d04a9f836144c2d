"""Digests that a client may have by the name that it asks for them by."""

from collections.abc import Callable
from functools import partial

import attrs

from nixery.builds.served import ServedImages
from nixery.http.request import RegistryRequest
from nixery.model.digest import Digest
from nixery.model.errors import NixeryError
from nixery.model.image import parse_image, parse_name
from nixery.model.tags import LATEST
from nixery.web.auth import Auth


@attrs.frozen
class PermittedDigests:
    """Lets through requests for digests.

    :param served: by which names digests are to be had; none if everybody may have all.
    """

    _auth: Auth
    served: ServedImages | None

    def permit(self, request: RegistryRequest, name: str) -> str:
        """Permit a request about a name.

        :return: the name as which it may be: see :meth:`nixery.access.guard.Guard.permit`.
        """
        parse_name(name)
        return self._auth.permit(request, name)

    async def digest(
        self, request: RegistryRequest, name: str, text: str, unknown: Callable[[str], NixeryError]
    ) -> Digest:
        """A digest that is asked for by a name of whose images the client may pull one with it.

        :param unknown: makes the error that there is no such thing.
        """
        permitted = self.permit(request, name)
        digest = Digest.parse(text)
        if self.served is None:
            return digest
        # Credentials may be for the name that was asked for, and not for what it stands for.
        tags = partial(self._auth.may_see, request, name)
        if not await self.served.holds(parse_image(permitted, LATEST).name, digest, tags):
            raise unknown(str(digest))
        return digest

    async def note_attached(self, request: RegistryRequest, name: str, subject: Digest) -> None:
        """Have what is attached to a manifest permitted as well: see :meth:`digest`."""
        if self.served is not None:
            permitted = self._auth.permit(request, name)
            await self.served.note_attached(parse_image(permitted, LATEST).name, subject)
