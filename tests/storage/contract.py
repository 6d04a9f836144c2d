# mypy: disable-error-code="import-untyped,untyped-decorator"
"""What every storage keeps to, whatever it is made of.

A backend's test module subclasses :class:`StorageContract` and has a fixture ``backend``.
"""

from typing import Any

import attrs
import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread, deferToThread
from zope.interface.verify import verifyObject

from nixery.interfaces import ILease, IStorage, IUpload
from nixery.model.digest import Digest
from nixery.model.request_errors import BlobUnknown
from nixery.model.service_errors import StorageFull, StorageUnavailable
from tests.storage.backend import (
    CONTENT,
    KEY,
    LIMIT,
    NO_KEYS,
    Backend,
    assert_unknown,
    descriptor,
    run,
    store,
    write,
)

reactor: Any = _reactor


DAMAGE = {
    "missing": None,
    "emptied": b"",
    "truncated": CONTENT[:-1],
    "grown": CONTENT + b"!",
    "flipped": CONTENT[:1000] + b"\xff" + CONTENT[1001:],
}


class StorageContract:
    """The tests; each starts with a place where nothing is stored."""

    @pytest.fixture
    def storage(self, backend: Backend) -> IStorage:
        return run(backend.open())

    @pytest_twisted.ensureDeferred
    async def test_interfaces(self, storage: IStorage) -> None:
        """A storage and its uploads provide all that the interfaces ask for."""
        upload = await storage.receive()
        verifyObject(IStorage, storage)
        verifyObject(IUpload, upload)
        await upload.discard()

    # --- blobs ----------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_any_bytes(self, backend: Backend, storage: IStorage) -> None:
        """Any bytes come back as they were, in every way in which they can be had."""

        async def check(content: bytes) -> None:
            digest = await storage.write_blob(content)
            assert digest == Digest.of(content)
            assert await storage.read_blob(digest, LIMIT) == content
            assert await backend.load(await storage.locate(digest)) == content

        @given(st.binary(max_size=5000))
        @settings(max_examples=30, deadline=None)
        def check_all(content: bytes) -> None:
            in_reactor: Any = Deferred.fromCoroutine
            blockingCallFromThread(reactor, in_reactor, check(content))

        # The plugin that runs Hypothesis's tests in the reactor can't do so with inherited ones.
        await deferToThread(check_all)

    @pytest_twisted.ensureDeferred
    async def test_large_upload(self, backend: Backend, storage: IStorage) -> None:
        """A blob of some MiB that comes by an upload is had back whole."""
        content = b"0123456789abcde\n" * 200_001
        digest = await store(storage, content)
        assert await backend.load(await storage.locate(digest)) == content

    @pytest_twisted.ensureDeferred
    async def test_unknown_blob(self, storage: IStorage) -> None:
        """A blob that was never stored is unknown."""
        await assert_unknown(storage, Digest.of(b"stored nowhere"))

    @pytest_twisted.ensureDeferred
    async def test_limit(self, storage: IStorage) -> None:
        """A blob of more bytes than the limit counts as unknown to the reader, and stays."""
        digest = await storage.write_blob(CONTENT)
        with pytest.raises(BlobUnknown):
            await storage.read_blob(digest, len(CONTENT) - 1)
        assert await storage.read_blob(digest, len(CONTENT)) == CONTENT

    @pytest_twisted.ensureDeferred
    async def test_stored_twice(self, backend: Backend, storage: IStorage) -> None:
        """What is stored already may be stored again, in either way."""
        for _ in range(2):
            await storage.write_blob(CONTENT)
            await store(storage, CONTENT)
        assert await backend.load(await storage.locate(Digest.of(CONTENT))) == CONTENT

    @pytest_twisted.ensureDeferred
    async def test_missing_blobs(self, backend: Backend, storage: IStorage) -> None:
        """Those blobs are missing, in their order, that are not there or have another size."""
        contents = [b"first", b"", b"second", b"third", b"cut", b"gone"]
        for content in contents:
            await storage.write_blob(content)
        await backend.damage(Digest.of(b"cut"), b"cu")
        await backend.damage(Digest.of(b"gone"), None)
        blobs = [descriptor(content) for content in [b"never", *contents]]
        blobs.append(attrs.evolve(descriptor(b"first"), size=6))
        expected = [Digest.of(content) for content in (b"never", b"cut", b"gone", b"first")]
        assert await storage.missing_blobs(blobs) == expected
        assert await storage.missing_blobs([]) == []

    @pytest_twisted.ensureDeferred
    async def test_use(self, backend: Backend, storage: IStorage) -> None:
        """To say that blobs are of use harms nothing, whether they are there or not."""
        digest = await storage.write_blob(CONTENT)
        unknown = Digest.of(b"stored nowhere")
        for _ in range(2):
            await storage.use([digest, unknown])
        await storage.use([])
        assert await storage.read_blob(digest, LIMIT) == CONTENT
        await assert_unknown(storage, unknown)

    @pytest_twisted.ensureDeferred
    async def test_dropped(self, backend: Backend, storage: IStorage) -> None:
        """A blob that is dropped is unknown to every instance, and can be made anew; one that is
        not there is dropped already."""
        digest = await storage.write_blob(CONTENT)
        other = await backend.open()
        for _ in range(2):
            assert await storage.drop([digest, Digest.of(b"never")], used=True) == []
            await assert_unknown(storage, digest)
            await assert_unknown(other, digest)
        assert await storage.write_blob(CONTENT) == digest
        assert await storage.read_blob(digest, LIMIT) == CONTENT

    @pytest_twisted.ensureDeferred
    async def test_tidied(self, storage: IStorage) -> None:
        """To tidy up harms nothing that is whole."""
        digest = await storage.write_blob(CONTENT)
        await storage.write_record(KEY, b"record")
        assert (await storage.tidy()).dropped == 0
        assert await storage.read_blob(digest, LIMIT) == CONTENT
        assert await storage.read_record(KEY) == b"record"

    # --- uploads --------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_invisible_until_committed(self, storage: IStorage) -> None:
        """What was written is known to nobody before it is committed."""
        upload = await storage.receive()
        await write(upload, CONTENT)
        await assert_unknown(storage, Digest.of(CONTENT))
        assert await storage.missing_blobs([descriptor(CONTENT)]) == [Digest.of(CONTENT)]
        await upload.commit(Digest.of(CONTENT), len(CONTENT))
        assert await storage.missing_blobs([descriptor(CONTENT)]) == []
        assert await storage.read_blob(Digest.of(CONTENT), LIMIT) == CONTENT

    @pytest_twisted.ensureDeferred
    async def test_discarded(self, storage: IStorage) -> None:
        """A discarded upload leaves nothing, and may be discarded again."""
        upload = await storage.receive()
        await write(upload, CONTENT)
        for _ in range(2):
            await upload.discard()
        await assert_unknown(storage, Digest.of(CONTENT))
        await (await storage.receive()).discard()

    @pytest_twisted.ensureDeferred
    async def test_discarded_after_commit(self, storage: IStorage) -> None:
        """To discard an upload that was committed harms nothing."""
        upload = await storage.receive()
        await write(upload, CONTENT)
        await upload.commit(Digest.of(CONTENT), len(CONTENT))
        await upload.discard()
        assert await storage.read_blob(Digest.of(CONTENT), LIMIT) == CONTENT

    @pytest.mark.parametrize("arrived", [b"", CONTENT[:-1], CONTENT + b"!"])
    @pytest_twisted.ensureDeferred
    async def test_not_what_was_written(self, storage: IStorage, arrived: bytes) -> None:
        """If other bytes arrived than were written, the commit fails and nothing is known."""
        upload = await storage.receive()
        await write(upload, arrived)
        with pytest.raises(StorageUnavailable):
            await upload.commit(Digest.of(CONTENT), len(CONTENT))
        await assert_unknown(storage, Digest.of(CONTENT))
        await upload.discard()

    @pytest_twisted.ensureDeferred
    async def test_nothing_written(self, storage: IStorage) -> None:
        """A commit of what nobody wrote fails."""
        upload = await storage.receive()
        with pytest.raises(StorageUnavailable):
            await upload.commit(Digest.of(CONTENT), len(CONTENT))
        await assert_unknown(storage, Digest.of(CONTENT))

    @pytest_twisted.ensureDeferred
    async def test_commits_at_once(self, backend: Backend) -> None:
        """Many commits of one digest at a time, by several instances, are one good blob."""
        storages = [await backend.open() for _ in range(3)]
        stores = [Deferred.fromCoroutine(store(s, CONTENT)) for s in storages * 3]
        for stored in stores:
            assert await stored == Digest.of(CONTENT)
        for storage in storages:
            assert await storage.read_blob(Digest.of(CONTENT), LIMIT) == CONTENT

    @pytest_twisted.ensureDeferred
    async def test_others_uploads_go_on(self, backend: Backend, storage: IStorage) -> None:
        """An instance that starts does not harm what another one is just receiving."""
        upload = await storage.receive()
        await write(upload, CONTENT)
        await (await backend.open()).start()
        await upload.commit(Digest.of(CONTENT), len(CONTENT))
        assert await storage.read_blob(Digest.of(CONTENT), LIMIT) == CONTENT

    # --- damage ---------------------------------------------------------------------------

    @pytest.mark.parametrize("damage", DAMAGE)
    @pytest.mark.parametrize("served", [False, True], ids=["new", "served"])
    @pytest_twisted.ensureDeferred
    async def test_damage(
        self, backend: Backend, storage: IStorage, damage: str, served: bool
    ) -> None:
        """Damage is noticed, also if the blob was served before: it is unknown then, missing,
        and can be made anew in either way; that all is as it was is not said any more."""
        other = await backend.open()
        for mend in (storage.write_blob, lambda content: store(storage, content)):
            digest = await mend(CONTENT)
            if served:
                assert await backend.load(await storage.locate(digest)) == CONTENT
            changes = storage.changes()
            await backend.damage(digest, DAMAGE[damage])
            await assert_unknown(other, digest)
            await assert_unknown(storage, digest)
            assert not served or storage.changes() is None or storage.changes() != changes
            assert await storage.missing_blobs([descriptor(CONTENT)]) == [digest]
            await mend(CONTENT)
            assert await backend.load(await storage.locate(digest)) == CONTENT

    @pytest.mark.parametrize("damage", DAMAGE)
    @pytest_twisted.ensureDeferred
    async def test_damage_that_nobody_saw(
        self, backend: Backend, storage: IStorage, damage: str
    ) -> None:
        """A blob that is stored anew is a good one, even if it was damaged and nobody knew."""
        for mend in (storage.write_blob, lambda content: store(storage, content)):
            digest = await mend(CONTENT)
            await backend.damage(digest, DAMAGE[damage])
            await mend(CONTENT)
            assert await storage.missing_blobs([descriptor(CONTENT)]) == []
            assert await backend.load(await storage.locate(digest)) == CONTENT

    @pytest_twisted.ensureDeferred
    async def test_many_ask_at_once(self, backend: Backend, storage: IStorage) -> None:
        """Whoever asks while a blob is looked at gets it, whichever of the others leave."""
        digest = await storage.write_blob(CONTENT)
        fresh = await backend.open()
        asking = [Deferred.fromCoroutine(fresh.locate(digest)) for _ in range(9)]
        for leaving in asking[::2]:
            leaving.addErrback(lambda failure: failure.trap(CancelledError))
            leaving.cancel()
        for staying in asking[1::2]:
            assert await backend.load(await staying) == CONTENT
        assert await fresh.read_blob(digest, LIMIT) == CONTENT

    # --- records --------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_records(self, backend: Backend, storage: IStorage) -> None:
        """A record is what was written last, for every instance, until it is deleted."""
        assert await storage.read_record(KEY) is None
        await storage.delete_record(KEY)
        other = await backend.open()
        for content in (b"\x00old\xff" * 999, b"", b"new"):
            await storage.write_record(KEY, content)
            assert await storage.read_record(KEY) == content
            assert await other.read_record(KEY) == content
        await other.delete_record(KEY)
        assert await storage.read_record(KEY) is None

    @pytest_twisted.ensureDeferred
    async def test_listed_records(self, backend: Backend, storage: IStorage) -> None:
        """The keys of a kind, or of those that begin with some digits, are listed without others,
        however many there are, by every instance; those of deleted records are not."""
        many = {f"builds/{number:08x}" for number in range(40)}
        others = {"manifests/0a", "provenance/0a"}
        for key in [*many, *others]:
            await storage.write_record(key, b"record", lasting=False)
        other = await backend.open()
        await other.delete_record("builds/00000001")
        for each in (storage, other):
            assert {k async for k in each.list_records("builds/")} == many - {"builds/00000001"}
            assert [k async for k in each.list_records("manifests/0")] == ["manifests/0a"]
            assert [k async for k in each.list_records("served/")] == []
            assert len([k async for k in each.list_records("builds/0000000")]) == 15
        for wrong in ("", "builds", "layers/", "builds/..", "builds/0/", "builds/0g"):
            with pytest.raises(ValueError, match="is not a prefix"):
                _ = [k async for k in storage.list_records(wrong)]

    @pytest_twisted.ensureDeferred
    async def test_record_keys(self, storage: IStorage) -> None:
        """Records of different keys, and blobs, do not touch each other."""
        digest = await storage.write_blob(CONTENT)
        keys = [f"{folder}/{hexa}" for folder in ("builds", "manifests") for hexa in ("0a", "0b")]
        keys.append(f"manifests/{digest.hex}")
        for key in keys:
            await storage.write_record(key, key.encode())
        await storage.delete_record(keys.pop(0))
        assert [await storage.read_record(key) for key in keys] == [key.encode() for key in keys]
        assert await storage.read_blob(digest, LIMIT) == CONTENT

    @pytest.mark.parametrize("key", NO_KEYS)
    @pytest_twisted.ensureDeferred
    async def test_no_such_key(self, storage: IStorage, key: str) -> None:
        """A key that is none of a record is refused, and leads nowhere."""
        with pytest.raises(ValueError, match="is not the key of a record"):
            await storage.write_record(key, b"content")
        with pytest.raises(ValueError, match="is not the key of a record"):
            await storage.read_record(key)
        with pytest.raises(ValueError, match="is not the key of a record"):
            await storage.delete_record(key)

    @pytest_twisted.ensureDeferred
    async def test_probe(self, backend: Backend, storage: IStorage) -> None:
        """A probe succeeds again and again."""
        for _ in range(2):
            await storage.probe()

    # --- leases ---------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_leases(self, backend: Backend, storage: IStorage) -> None:
        """Of all who want the lease of a key, in whichever instance, one has it at a time; in
        the end all had it. Leases of other keys are no matter."""
        other = await backend.open()
        held, most, total = 0, 0, 0

        async def work(instance: IStorage) -> None:
            nonlocal held, most, total
            lease = await instance.lease("0a")
            verifyObject(ILease, lease)
            held, total = held + 1, total + 1
            most = max(most, held)
            await deferLater(reactor, 0.01)
            held -= 1
            await lease.release()
            await lease.release()

        apart = await storage.lease("0b")
        working = [Deferred.fromCoroutine(work(s)) for s in (storage, other, storage, other)]
        for worked in working:
            await worked
        assert (most, total) == (1, 4)
        await apart.release()
        assert await storage.read_record("builds/0a") is None

    @pytest_twisted.ensureDeferred
    async def test_leaving_a_lease(self, backend: Backend, storage: IStorage) -> None:
        """Who does not wait for a lease any longer does not get it."""
        other = await backend.open()
        lease = await storage.lease("0a")
        waiting = Deferred.fromCoroutine(other.lease("0a"))
        waiting.addErrback(lambda failure: failure.trap(CancelledError))
        await deferLater(reactor, 0.05)
        waiting.cancel()
        await waiting
        await lease.release()
        await (await storage.lease("0a")).release()

    @pytest.mark.parametrize("key", ["", "..", "0A", "../layers/0a", "0a\n", "0" * 129])
    @pytest_twisted.ensureDeferred
    async def test_no_lease_key(self, storage: IStorage, key: str) -> None:
        """A key that is none of a lease is refused."""
        with pytest.raises(ValueError, match="is not the key of a lease"):
            await storage.lease(key)

    # --- room -----------------------------------------------------------------------------

    @pytest_twisted.ensureDeferred
    async def test_full(self, backend: Backend, storage: IStorage) -> None:
        """Without room that is said, and what was stored is there; with room again, all works."""
        digest = await storage.write_blob(CONTENT)
        await storage.write_record(KEY, b"old")
        large = b"0123456789abcdef" * 65536
        with backend.full():
            for attempt in (storage.write_record(KEY, large), storage.write_blob(large)):
                with pytest.raises(StorageFull):
                    await attempt
            with pytest.raises(StorageFull):
                await storage.probe()
            await assert_unknown(storage, Digest.of(large))
            assert await storage.read_record(KEY) == b"old"
            assert await storage.read_blob(digest, LIMIT) == CONTENT
        await store(storage, large)
        await storage.write_record(KEY, b"new")
        assert await storage.read_record(KEY) == b"new"
        assert await backend.load(await storage.locate(Digest.of(large))) == large
