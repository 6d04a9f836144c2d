"""Conditional requests: entity tags (RFC 9110 sections 8.8.3 and 13.1)."""

import re

_TAG = re.compile(r'(?:W/)?"([^"]*)"')


def matches(header: str, digest: str) -> bool:
    """Whether an ``If-None-Match`` header names a digest, weakly compared."""
    return header.strip() == "*" or digest in _TAG.findall(header)


def is_exactly(header: str, digest: str) -> bool:
    """Whether an ``If-Range`` header is the digest's entity tag; a date, or a weak one, is not."""
    return header.strip() == f'"{digest}"'
