"""Keys of requests."""

from nixery.model.request_key import KEY_SIZE, PLAIN, request_key

HEAD = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic dTpw\r\n\r\n"


def test_what_a_key_depends_on() -> None:
    """Requests have one key if they are the same to the byte, and come in the same way."""
    keys = {
        request_key(b"secret", HEAD, PLAIN),
        request_key(b"secret", HEAD + b"\r\n", PLAIN),
        request_key(b"secret", HEAD.replace(b"dTpw", b"dTpx"), PLAIN),
        request_key(b"secret", HEAD, b"other"),
        request_key(b"Secret", HEAD, PLAIN),
    }
    assert len(keys) == 5
    assert {len(each) for each in keys} == {KEY_SIZE}
    assert request_key(b"secret", HEAD, PLAIN) in keys
