"""How tests talk to the server: as a client that does exactly what it is told."""

import http.client
from typing import Any

import attrs
from twisted.internet.threads import deferToThread

from tests.gcs.server import GcsServer
from tests.waiting import HUNG

OBJECTS = "/storage/v1/b/bucket/o"
UPLOAD = "/upload/storage/v1/b/bucket/o"


@attrs.frozen
class Got:
    """An answer that was read to its end.

    :ivar lost: whether the connection was lost before that.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    lost: bool = False


@attrs.frozen
class Asker:
    """Asks a server, each time on a new connection and with a good token."""

    server: GcsServer

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Got:
        """Ask; in headers' names, underscores stand for dashes. An empty one isn't sent."""
        fields = {"Authorization": f"Bearer {self.server.token}"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {name: value for name, value in fields.items() if value}

        def talk() -> Got:
            port = int(self.server.url.rpartition(":")[2])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HUNG)
            try:
                connection.request(method, path, body, fields)
                answer = connection.getresponse()
                names = {name.lower(): value for name, value in answer.getheaders()}
                return Got(answer.status, names, answer.read())
            except (http.client.HTTPException, OSError):
                return Got(0, {}, b"", lost=True)
            finally:
                connection.close()

        got: Got = await deferToThread(talk)
        return got

    async def upload(self, name: str, body: bytes, query: str = "", **headers: str) -> Got:
        """Upload in one request."""
        path = f"{UPLOAD}?uploadType=media&name={name}{query}"
        return await self.ask("POST", path, body, **headers)

    async def start(self, name: str, query: str = "", **headers: str) -> str:
        """Begin a resumable upload, and say its path."""
        got = await self.ask("POST", f"{UPLOAD}?uploadType=resumable&name={name}{query}", **headers)
        assert got.status == 200
        return got.headers["location"].removeprefix(self.server.url)

    async def chunk(self, path: str, span: str, body: bytes = b"", **headers: str) -> Got:
        """Send a chunk with a ``Content-Range``."""
        return await self.ask("PUT", path, body, Content_Range=f"bytes {span}", **headers)
