# mypy: disable-error-code="import-untyped,untyped-decorator"
"""A machine of Google's, whose account has no key here: Google's library finds it, and signs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from nixery.interfaces import Redirect
from nixery.model.service_errors import StorageUnavailable
from nixery.storage.objects.gcs import GcsStore
from nixery.storage.objects.google_credentials import GoogleCredentials
from nixery.storage.objects.object_storage import ObjectStorage
from tests.storage.backend import CONTENT, run
from tests.storage.bucket_place import OPTIONS
from tests.storage.gcs_place import BUCKET, GcsPlace, gcs_place

reactor: Any = _reactor


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsPlace]:
    context = gcs_place(tmp_path, monkeypatch.setenv)
    place = run(context.__aenter__())
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    host = place.server.url.removeprefix("http://")
    monkeypatch.setenv("GCE_METADATA_IP", host)
    # Google's library reads this one when it is imported.
    monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", host)
    monkeypatch.setattr(
        "google.auth.iam._IAM_SIGN_ENDPOINT",
        f"{place.server.url}/v1/projects/-/serviceAccounts/{{}}:signBlob",
    )
    yield place
    run(context.__aexit__(None, None, None))


def make(place: GcsPlace) -> ObjectStorage:
    environ = {"STORAGE_EMULATOR_HOST": place.server.url}
    credentials = GoogleCredentials(reactor)
    store = GcsStore(reactor, place.agent, BUCKET, environ, credentials)
    return ObjectStorage(reactor, store, OPTIONS)


@pytest_twisted.ensureDeferred
async def test_machine(place: GcsPlace) -> None:
    """The machine's tokens are taken, and URLs are signed by the IAM service in its name."""
    storage = make(place)
    await storage.start()
    location = await storage.locate(await storage.write_blob(CONTENT))
    storage.stop()
    assert isinstance(location, Redirect)
    assert "X-Goog-Signature=" in location.url
    assert await place.load(location) == CONTENT
    assert place.server.count("sign") == 2  # one at the start, to try


@pytest_twisted.ensureDeferred
async def test_a_machine_that_may_not_sign(place: GcsPlace) -> None:
    """If the account may not sign, that is said at the start."""
    place.server.accounts.may_sign = False
    with pytest.raises(StorageUnavailable, match="no URL can be signed"):
        await make(place).start()
