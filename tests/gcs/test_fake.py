"""The fake that others test with runs here."""

import urllib.request
from pathlib import Path

from tests.gcs.asking import UPLOAD
from tests.gcs.fake import fake_gcs_server


def test_fake(tmp_path: Path) -> None:
    """What is uploaded to its bucket can be had by everybody."""
    with fake_gcs_server(tmp_path, "bucket") as fake:
        url = f"{fake.url}{UPLOAD}?uploadType=media&name=layers/a"
        urllib.request.urlopen(url, b"content").close()
        assert fake.names("layers/") == ["layers/a"]
        assert fake.content("layers/a") == b"content"
