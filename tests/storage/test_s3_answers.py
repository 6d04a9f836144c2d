"""Answers of S3 are read for what they are, also those that a proxy or an accident wrote."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from nixery.model.service_errors import StorageFull
from nixery.storage.objects.http_client import HttpAnswer
from nixery.storage.objects.object_store import PassingFault, Refused
from nixery.storage.objects.s3_answers import (
    checksum_in,
    code_of,
    failure_of,
    is_there,
    object_of,
    objects_in,
    reason_of,
    version_of,
)

ERROR = b"<Error><Code>%s</Code><Message>see https://h/x?X-Amz-Signature=secret</Message></Error>"


def answer(status: int, content: bytes = b"", /, **headers: str) -> HttpAnswer:
    named = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return HttpAnswer(status, Headers(named), content)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        *((503, b"SlowDown", PassingFault), (500, b"InternalError", PassingFault)),
        *((400, b"RequestTimeout", PassingFault), (409, b"OperationAborted", PassingFault)),
        *((200, b"InternalError", PassingFault), (400, b"BadDigest", PassingFault)),
        *((403, b"AccessDenied", Refused), (404, b"NoSuchBucket", Refused)),
        *((403, b"QuotaExceeded", StorageFull), (507, b"XMinioStorageFull", StorageFull)),
    ],
)
def test_failures(status: int, code: bytes, kind: type[Exception]) -> None:
    """A fault is one that passes, one that stays, or a lack of room; without secrets."""
    failed = failure_of(answer(status, ERROR % code))
    assert type(failed) is kind
    assert "secret" not in str(failed)


def test_reason() -> None:
    """The reason is the service's code and words, in one line."""
    assert reason_of(answer(403, ERROR % b"AccessDenied")) == (
        "status 403 (AccessDenied: see https://h/x)"
    )
    assert reason_of(answer(502, b"<html>bad gateway")) == "status 502 (<html>bad gateway)"
    assert reason_of(answer(403)) == "status 403"


def test_cut_short() -> None:
    """A document that is cut short is no answer."""
    with pytest.raises(PassingFault, match="cut short"):
        list(objects_in(answer(200, b"<ListBucketResult><Contents><Key>a"), ""))


def test_too_long() -> None:
    """A document that would take long to read, or much memory, is not read."""
    page = b"<L>" + b"<a/>" * 1_050_000 + b"</L>"
    with pytest.raises(PassingFault, match="too long"):
        list(objects_in(answer(200, page), ""))


@pytest.mark.parametrize("size", ["x", "-1", "9" * 5000])
def test_sizes(size: str) -> None:
    """A list with a size that is none is refused."""
    page = f"<L><Contents><Key>a</Key><Size>{size}</Size></Contents></L>"
    with pytest.raises(Refused, match="is no size"):
        list(objects_in(answer(200, page.encode()), ""))


@given(st.sampled_from([200, 400, 403, 404, 500]), st.binary(max_size=60), st.booleans())
def test_any_content(status: int, content: bytes, tagged: bool) -> None:
    """Whatever comes is a failure of a known kind, or nothing."""
    given = answer(status, b"<" + content if tagged else content)
    if status != 200:
        assert isinstance(failure_of(given), PassingFault | Refused)
        assert (code_of(given), is_there(given)) == ("", False)
        return
    with contextlib.suppress(PassingFault):  # it is cut short
        assert code_of(given) == ""


def test_versions() -> None:
    """An ETag is a version, however it is quoted."""
    for text in ('"a-2"', "a-2", 'W/"a-2"'):
        assert version_of(text) == "a-2"


def test_checksums() -> None:
    """The checksum of parts' checksums is none of the object."""
    assert checksum_in(answer(200, x_amz_checksum_crc32c="AAAAAA==")) == "AAAAAA=="
    assert checksum_in(answer(200, x_amz_checksum_crc32c="AAAAAA==-3")) == ""
    document = b"<R xmlns='urn:x'><ChecksumCRC32C>AAAAAA==</ChecksumCRC32C></R>"
    assert checksum_in(answer(200, document)) == "AAAAAA=="


def test_descriptions() -> None:
    """An object is described by headers: with an age by the service's clock, and with what was
    noted, which counts for its checksum only where the service has none."""
    headers = {
        "ETag": '"v"',
        "Content_Length": "3",
        "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "Date": "Thu, 01 Jan 2026 00:00:09 GMT",
        "x_amz_meta_nixery_crc32c": "noted",
    }
    found = object_of("layers/0a", answer(200, **headers), keeps_checksums=False)
    assert (found.version, found.size, found.checksum, found.age) == ("v", 3, "noted", 9)
    assert found.metadata == {"nixery-crc32c": "noted"}
    assert object_of("layers/0a", answer(200, **headers), keeps_checksums=True).checksum == ""
    with pytest.raises(Refused, match="description is wrong"):
        object_of("layers/0a", answer(200), keeps_checksums=True)
