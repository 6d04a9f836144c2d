"""A document about an image, as bytes, and the statement that attaches it to the image."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nixery.model.manifest import Descriptor

IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


@attrs.frozen
class Document:
    """A document about an image.

    :param artifact_type: of the OCI artifact that it is; clients look for it by this.
    :param media_type: of its bytes.
    :param predicate_type: the URI that says of a statement what it states.
    :param file_name: what it is called as a file.
    """

    artifact_type: str
    media_type: str
    content: bytes
    predicate_type: str
    file_name: str

    def statement(self, subject: Descriptor, name: str) -> bytes:
        """The in-toto statement that says this of an image, to be signed.

        :param subject: the image's manifest.
        :param name: the image's.
        """
        if self.media_type == IN_TOTO:
            return self.content
        stated = statement_about(subject, name, self.predicate_type)
        # As it is: written once more, a long document would take its time again.
        return b'%b,"predicate":%b}' % (_encode(stated)[:-1].encode("ascii"), self.content)


def statement_about(subject: Descriptor, name: str, predicate_type: str) -> dict[str, Any]:
    """An in-toto statement, as JSON has it, without its predicate.

    https://github.com/in-toto/attestation/blob/v1.0/spec/v1.0/statement.md
    """
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": subject.digest.hex}}],
        "predicateType": predicate_type,
    }


def encode(document: Mapping[str, Any]) -> bytes:
    """A JSON object, as bytes.

    Long lists are given as iterators. Their elements are made and written one by one: no other
    thread runs while one piece is written, nor while Python's garbage collector looks through very
    many of them.
    """
    return _text(document).encode("ascii")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_encode(name)}:{_text(each)}' for name, each in value.items())}}}"
    if isinstance(value, Iterator):
        return f"[{','.join(map(_encode, value))}]"
    return _encode(value)
