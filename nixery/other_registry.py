"""Another registry, asked for the manifest of an image."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

import attrs
from twisted.web.iweb import IAgent

from nixery.model.image import Image
from nixery.model.manifest import MANIFEST_TYPE
from nixery.model.service_errors import OtherRegistryUnavailable

_PATIENCE = 120.0
"""Seconds for an answer: more than a registry may hold a request."""
_TURNS = 1000
"""How often it may send its client to itself again, while it makes the image."""
_ACCEPT = {"Accept": MANIFEST_TYPE}


@attrs.frozen
class OtherRegistry:
    """Asks other registries, without credentials.

    :param agent: makes the agent that is used.
    """

    _reactor: Any
    _agent: Callable[[], IAgent]

    async def manifest(self, url: str, image: Image) -> bytes:
        """The manifest of an image in another registry.

        :param url: the registry's, as ``https://HOST:PORT``.
        :raises OtherRegistryUnavailable: if it has none, or can't be asked.
        """
        # A client for HTTP takes time and memory.
        from nixery.storage.objects.http_client import StoreClient
        from nixery.storage.objects.object_store import PassingFault

        client = StoreClient(self._reactor, self._agent())
        where = f"{url.rstrip('/')}/v2/{image.name}/manifests/{image.tag}"
        for _ in range(_TURNS):
            try:
                answer = await client.ask("GET", where, _ACCEPT, b"", _PATIENCE)
            except PassingFault as fault:
                raise OtherRegistryUnavailable(url, str(fault)) from fault
            if answer.status == 200:
                return answer.content
            where = urljoin(where, answer.header("Location"))
            again = answer.status == 307 and urlsplit(where)[:2] == urlsplit(url)[:2]
            if not again:
                raise OtherRegistryUnavailable(url, answer.reason())
        raise OtherRegistryUnavailable(url, "it did not finish the image in time")
