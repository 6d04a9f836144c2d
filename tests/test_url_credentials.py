"""User and password in a URL."""

import pytest

from nixery.url_credentials import split_credentials


@pytest.mark.parametrize(
    ("url", "bare", "auth"),
    [
        ("https://x.example/a?b#c", "https://x.example/a?b#c", None),
        ("https://x.example/@a:b", "https://x.example/@a:b", None),
        ("https://u:p@x.example:8/a", "https://x.example:8/a", ("u", "p")),
        ("http://u@[::1]:8/", "http://[::1]:8/", ("u", "")),
        ("https://:t%40ken@x/", "https://x/", ("", "t@ken")),
        ("https://a@b:c:d@x/", "https://x/", ("a@b", "c:d")),
    ],
)
def test_split(url: str, bare: str, auth: tuple[str, str] | None) -> None:
    """Credentials are taken out, as they were before they were escaped; all else stays."""
    assert split_credentials(url) == (bare, auth)
