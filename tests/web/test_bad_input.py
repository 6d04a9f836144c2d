"""What is no proper request gets a refusal, or a closed connection, and harms nobody else."""

import re

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from nixery.model.limits import HttpLimits
from tests.web.server import LIMITS, Server, serving

LINE = b"GET /v2/ HTTP/1.1\r\n"
GET = LINE + b"Host: x\r\n"
# What a proxy would have taken for a part of the request before.
SMUGGLED = b"GET /v2/smuggled/manifests/latest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
CHUNKED = GET + b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = 1024 * 1024


def statuses(received: bytes) -> list[int]:
    """The status codes of all answers in what was received; no body here looks like one."""
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", received)]


async def assert_serves(server: Server) -> None:
    assert (await server.ask("/v2/known/manifests/latest")).status == 200


SMUGGLING = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "doubled length": b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "differing lengths": b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n",
    "list of lengths": b"Content-Length: 0, 0\r\n\r\n",
    "+5": b"Content-Length: +5\r\n\r\nhello",
    "-5": b"Content-Length: -5\r\n\r\nhello",
    "0x5": b"Content-Length: 0x5\r\n\r\nhello",
    "5 5": b"Content-Length: 5 5\r\n\r\nhello",
    "1_0": b"Content-Length: 1_0\r\n\r\n",
    "no length": b"Content-Length: \r\n\r\n",
    "long length": b"Content-Length: " + b"0" * 5000 + b"5\r\n\r\nhello",
    "length with a space": b"Content-Length : 5\r\n\r\nhello",
    "xchunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity, chunked": b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "identity": b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n",
    "gzip": b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "chunked in quotes": b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "vertical tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "doubled encoding": 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n",
    "encoding with a space": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded": b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded value": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "line feed": b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "carriage return": b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL": b"Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n",
    "no colon": b"Transfer-Encoding\r\n\r\n",
    "no name": b": chunked\r\n\r\n",
}
CHUNKS = {
    "+5": b"+5\r\nhello\r\n0\r\n\r\n",
    "-5": b"-5\r\nhello\r\n0\r\n\r\n",
    "0x5": b"0x5\r\nhello\r\n0\r\n\r\n",
    "space": b" 5\r\nhello\r\n0\r\n\r\n",
    "space behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "nothing": b"\r\nhello\r\n0\r\n\r\n",
    "line feeds": b"5\nhello\n0\n\n" + b"x" * 2000,
    "too short": b"4\r\nhello\r\n0\r\n\r\n",
    "long size": b"0" * 2000 + b"5\r\nhello\r\n0\r\n\r\n",
    "long extension": b"5;" + b"x" * 2000 + b"\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;\x00\r\nhello\r\n0\r\n\r\n",
    "line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "long trailers": b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING)
async def test_smuggling(rest: bytes) -> None:
    """A doubtful length is refused, and nothing behind it is taken for a request."""
    async with serving() as server:
        assert statuses(await server.send(GET + rest + SMUGGLED)) == [400]
        assert server.builder.asked == []
        assert server.bounds.refused == {"malformed": 1}
        await assert_serves(server)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
async def test_chunks(chunks: bytes) -> None:
    """Doubtful chunks are refused, and nothing behind them is taken for a request."""
    async with serving() as server:
        assert statuses(await server.send(CHUNKED + chunks + SMUGGLED)) == [400]
        assert server.builder.asked == []
        await assert_serves(server)


@pytest_twisted.ensureDeferred
async def test_chunks_in_http_1_0() -> None:
    """HTTP/1.0 has no chunks: a proxy would take them for the next request."""
    request = CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n"
    async with serving() as server:
        assert statuses(await server.send(request + SMUGGLED)) == [400]
        assert server.builder.asked == []


HEADS = {
    "line feeds": b"GET /v2/ HTTP/1.1\nHost: x\n\n",
    "no version": b"GET /v2/\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET /v2/ HTTP/1.2\r\nHost: x\r\n\r\n",
    "http/1.1": b"GET /v2/ http/1.1\r\nHost: x\r\n\r\n",
    "two spaces": b"GET  /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "tab": b"GET\t/v2/\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the target": b"GET /v2/ a HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in the target": b"GET /v2/\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "return in the target": b"GET /v2/\rX HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes in the target": b"GET /v2/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "no method": b" /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": bytes(range(14, 256)) + b"\r\n\r\n",
    "empty lines": b"\r\n\r\n\r\n",
    "no Host": LINE + b"\r\n",
    "two Hosts": GET + b"Host: x\r\n\r\n",
    "two Hosts in one": LINE + b"Host: x, y\r\n\r\n",
    "Host with a space": LINE + b"Host : x\r\n\r\n",
    "Host with a path": LINE + b"Host: x/y\r\n\r\n",
    "folded Host": LINE + b"Host: x\r\n\ty\r\n\r\n",
    "NUL in Host": LINE + b"Host: x\x00y\r\n\r\n",
    "bell in a header": GET + b"X: \x07\r\n\r\n",
    "delete in a header": GET + b"X: \x7f\r\n\r\n",
    "bytes in a name": GET + b"X\xff: y\r\n\r\n",
    "absolute form without Host": b"GET http://x/v2/ HTTP/1.1\r\n\r\n",
    "absolute form, wrong Host": b"GET http://x/v2/ HTTP/1.1\r\nHost: x/y\r\n\r\n",
    "absolute form, two Hosts": b"GET http://x/v2/ HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
    "absolute form without a host": b"GET http:///v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "userinfo": b"GET http://user:word@x/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "another scheme": b"GET ftp://x/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "scheme without slashes": b"GET http:/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "two Hosts in HTTP/1.0": b"GET /v2/ HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n",
    "path as Host in HTTP/1.0": b"GET /v2/ HTTP/1.0\r\nHost: x/y\r\n\r\n",
    "authority form": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
}
TARGETS = [
    *("/v2/%00", "/v2/a%00/manifests/latest", "/v2/%0d%0aX:y", "/v2/%7f", "/v2/%1b%5b2J"),
    *("/v2/%c0%af", "/v2/%c0%ae%c0%ae/", "/v2/%e0%80%af", "/v2/%ff", "/v2/%ed%a0%80", "/v2/%f5"),
    *("/v2/%e2%80%ae", "/v2/" + "a" * 2048, "*"),
]
QUERIES = [
    *("/v2/known/manifests/latest?a=%0d%0aSet-Cookie:b", "/v2/known/manifests/latest?ns=%00%ff"),
    *("/v2/known/tags/list?n=1&last=%0d%0aSet-Cookie:b", "/v2/known/tags/list?n=%00&last=%ff"),
    *("/?name=%0d%0aSet-Cookie:b", "/?name=%00%ff%c0%ae", "/?%zz=%", "/?" + "a&" * 1000),
]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_heads(head: bytes) -> None:
    """A head that is not as it must be is refused, whatever follows."""
    async with serving() as server:
        closing = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert statuses(await server.send(closing + SMUGGLED)) == [400]
        assert server.builder.asked == []
        await assert_serves(server)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("target", TARGETS)
async def test_targets(target: str) -> None:
    """Paths are UTF-8 without control characters, however they are encoded."""
    async with serving() as server:
        assert statuses(await server.send(closing(target))) in ([400], [405])
        await assert_serves(server)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("target", QUERIES)
async def test_queries(target: str, held: bool) -> None:
    """Whatever a query holds, nothing of it gets out as a header, not in redirects either."""
    async with serving(hold=0.01 if held else 25) as server:
        server.builder.gate = Deferred() if held else None
        server.builder.offered = ["a", "b", "c"]
        received = await server.send(closing(target))
        assert statuses(received)[0] in (200, 303, 307, 400)
        assert b"\nset-cookie" not in received.lower()
        server.builder.gate = None
        await assert_serves(server)


def closing(target: str) -> bytes:
    """A request that is the connection's last."""
    return f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("ascii")


UP = ("..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "..%5c..", "..\\..", "....//", "..;", "%c0%ae.")
ROOTS = ("/v2/", "/static/", "/images/", "/builds/", "/")
PATHS = [
    *(f"{root}{up}/{up}/{up}/{up}/etc/passwd" for root in ROOTS for up in UP),
    *(f"{root}{'..%2f' * 6}etc/passwd" for root in ROOTS),
    *(f"{root}%2fetc/passwd" for root in ROOTS),
    *(f"{root}/etc/passwd" for root in ROOTS),
    *(f"{root}{up}/page.py" for root in ROOTS for up in UP),
    *("/static/__init__.py", "/static/..%2fpage.py", "/static/%2e%2e%2f%2e%2e%2fsite.py"),
    "/v2/../../etc/passwd/manifests/latest",
    "/v2/a/blobs/..%2f..%2f..%2fetc%2fpasswd",
    "/v2/a/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd",
    "/v2/a/manifests/..%2f..%2fetc%2fpasswd",
]


@pytest_twisted.ensureDeferred
async def test_path_traversal() -> None:
    """No path leads to a file that is not served."""
    async with serving() as server:
        for path in PATHS:
            received = await server.send(closing(path))
            assert statuses(received)[0] in (400, 404), path
            assert b"root:" not in received, path
            assert b"import " not in received, path
        assert server.builder.asked == []


LARGE = {
    "headers": (GET + b"X: " + b"y" * MEGABYTE + b"\r\n\r\n", 431),
    "20,000 headers": (GET + b"X: y\r\n" * 20_000 + b"\r\n", 431),
    "600 headers": (GET + b"X: y\r\n" * 600 + b"\r\n", 431),
    "name of a header": (GET + b"X" * 1000 + b": y\r\n\r\n", 431),
    "header without an end": (GET + b"X: " + b"y" * MEGABYTE, 431),
    "target": (b"GET /" + b"y" * MEGABYTE + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "line without an end": (b"y" * MEGABYTE, 414),
    "body": (GET + b"Content-Length: 10485760\r\n\r\n" + b"y" * 10 * MEGABYTE, 413),
    "announced body": (GET + b"Content-Length: 65537\r\n\r\n", 413),
    "immense body": (GET + b"Content-Length: 999999999999999999\r\n\r\n", 413),
    "expected body": (GET + b"Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n", 413),
    "chunks": (CHUNKED + b"10000\r\n" + b"y" * 65536 + b"\r\n1\r\ny\r\n0\r\n\r\n", 413),
    "chunk": (CHUNKED + b"a00000\r\n" + b"y" * 10 * MEGABYTE + b"\r\n0\r\n\r\n", 413),
    "small chunks": (CHUNKED + b"1\r\ny\r\n" * 70_000 + b"0\r\n\r\n", 413),
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("request_", "status"), LARGE.values(), ids=LARGE)
async def test_too_large(request_: bytes, status: int) -> None:
    """What is too large is refused in the registry's form, which the client gets to read."""
    async with serving() as server:
        received = await server.send(request_ + SMUGGLED)
        assert statuses(received) == [status]
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"\r\nConnection: close" in head
        assert body.startswith(b'{"errors": [{"code": "')
        assert server.builder.asked == []
        await assert_serves(server)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 65536\r\n\r\n" + b"y" * 65536,
        b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\ny",
        b"Transfer-Encoding: chunked\r\n\r\n10000;ext=1\r\n"
        + b"y" * 65536
        + b"\r\n0\r\nX: y\r\n\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(490)) + b"\r\n",
        b"X: " + b"y" * 30_000 + b"\r\n\r\n",
    ],
    ids=["body", "expected", "chunks", "many headers", "long header"],
)
async def test_large_enough(rest: bytes) -> None:
    """What is not too large is taken, and the next request on the connection as well."""
    async with serving() as server:
        received = await server.send(GET + rest + SMUGGLED)
        assert [each for each in statuses(received) if each != 100] == [200, 200]
        assert len(server.builder.asked) == 1


@pytest_twisted.ensureDeferred
async def test_header_size_is_a_setting() -> None:
    """An operator says how large a request's head may be."""
    async with serving(limits=HttpLimits(header_size=4000)) as server:
        for size, status in ((3000, 200), (5000, 431)):
            request = GET + b"Connection: close\r\nX: " + b"y" * size + b"\r\n\r\n"
            assert statuses(await server.send(request)) == [status]
    assert LIMITS.header_size > 5000


@pytest_twisted.ensureDeferred
async def test_http_1_0() -> None:
    """HTTP/1.0 is spoken: one request on a connection, and no chunks in its answer."""
    request = b"GET /v2/known/manifests/latest HTTP/1.0\r\nHost: x\r\n\r\n"
    async with serving() as server:
        received = await server.send(request + SMUGGLED)
        assert statuses(received) == [200]
        assert b"Transfer-Encoding" not in received
        assert len(server.builder.asked) == 1


@pytest_twisted.ensureDeferred
async def test_http_1_0_without_host() -> None:
    """HTTP/1.0 knows of no Host; what asks for the connection to be kept is served, and closed."""
    async with serving() as server:
        for headers in (b"", b"Connection: keep-alive\r\n"):
            request = b"GET /v2/ HTTP/1.0\r\n" + headers + b"\r\n"
            assert statuses(await server.send(request + SMUGGLED)) == [200]
        request = b"GET /v2/known/manifests/latest HTTP/1.0\r\n\r\n"
        assert statuses(await server.send(request)) == [200]
        assert len(server.builder.asked) == 1


ABSOLUTE = {
    "http://x/v2/": 200,
    "HTTPS://X:443/v2/": 200,
    "http://[::1]:80/v2/": 200,
    "http://other.example/v2/": 200,
    "http://x": 200,
    "http://x?name=hello": 200,
    "http://x/nothing": 404,
    "http://x//v2/": 404,
    "http://x/http://x/v2/": 404,
    "//x/v2/": 404,
    "//v2/": 404,
}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("target", "status"), ABSOLUTE.items(), ids=ABSOLUTE)
async def test_absolute_form(target: str, status: int) -> None:
    """A target in absolute form is served like its path, whatever its authority."""
    async with serving() as server:
        assert statuses(await server.send(closing(target))) == [status]


@pytest_twisted.ensureDeferred
async def test_redirects_of_absolute_form() -> None:
    """Who is redirected to itself gets a path, whatever the form of its target."""
    async with serving(hold=0.01) as server:
        server.builder.gate = Deferred()
        received = await server.send(closing("http://other/v2/known/manifests/latest?ns=x"))
        assert statuses(received) == [307]
        assert b"\r\nLocation: /v2/known/manifests/latest?ns=x&nixery-hop=1\r\n" in received


@pytest_twisted.ensureDeferred
async def test_asterisk_form() -> None:
    """A question about the server is none that is answered, and the answer says which are."""
    async with serving() as server:
        received = await server.send(b"OPTIONS" + closing("*").removeprefix(b"GET"))
        assert statuses(received) == [405]
        assert b"\r\nAllow: GET, HEAD\r\n" in received


@pytest_twisted.ensureDeferred
async def test_pipelining() -> None:
    """Any number of requests may be sent at once: they are answered one by one, in order."""
    names = [f"image-{number}" for number in range(2000)]
    requests = [f"GET /v2/{name}/manifests/latest HTTP/1.1\r\nHost: x\r\n\r\n" for name in names]
    async with serving() as server:
        received = await server.send("".join(requests).encode("ascii") + SMUGGLED)
        assert statuses(received) == [200] * 2001
        assert [str(image.name) for image in server.builder.asked] == [*names, "smuggled"]


NAMED = {
    "of the server": b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "no request": b"nonsense\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "doubtful": GET + b"Content-Length: x\r\n\r\n",
    "too large": GET + b"Content-Length: 10000000\r\n\r\n",
    "no host": LINE + b"Connection: close\r\n\r\n",
    "written": b"PUT" + GET[3:] + b"Connection: close\r\n\r\n",
}


@pytest.mark.parametrize("request_", NAMED.values(), ids=NAMED)
@pytest_twisted.ensureDeferred
async def test_refusals_are_named(request_: bytes) -> None:
    """Every refusal has an id of its own, and says of the server no more than other answers."""
    async with serving() as server:
        first, second = await server.send(request_), await server.send(request_)
        (one,), (other,) = (re.findall(_ID, each, re.IGNORECASE) for each in (first, second))
        assert one != other
        assert b"\r\nServer: nixery\r\n" in first
        assert statuses(first)[0] >= 400


@pytest_twisted.ensureDeferred
async def test_refusals_are_logged() -> None:
    """What a connection refuses is a line of the log, with its id and who asked; nothing of what
    was sent is."""
    async with serving() as server:
        with capturedLogs() as events:
            received = await server.send(b"GET /secret HTTP/1.1\r\nA: secret\x00\r\n\r\n")
        (named,) = re.findall(_ID, received, re.IGNORECASE)
        (event,) = [each for each in events if each.get("request") == named.decode("ascii")]
        text = formatEvent(event)
        assert "127.0.0.1" in text
        assert "400" in text
        assert "secret" not in text


_ID = rb"\r\nX-Request-ID: ([0-9a-f]+)\r\n"
