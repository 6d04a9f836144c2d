"""The result of making an image again: whether its derivations and layers came out the same."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import attrs

from nixery.model.closure import store_name
from nixery.model.manifest import Manifest

Outcome = Literal["same", "differs", "failed", "skipped"]
"""``failed`` could not be made again, ``skipped`` was not tried."""


@attrs.frozen
class RebuiltDerivation:
    """A derivation that was built again, or was to be.

    :param derivation: its store path.
    :param detail: where an output differs first, or why there is no result.
    """

    derivation: str
    outcome: Outcome
    detail: str = ""


@attrs.frozen
class RepackedLayer:
    """A layer that was packed again.

    :param digest: the one in the image.
    :param again: of what was packed now; empty if nothing was.
    :param paths: its store paths; none for the root file system.
    """

    digest: str
    again: str
    paths: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Whether it is the same."""
        return "same" if self.digest == self.again else "differs" if self.again else "failed"


@attrs.frozen
class Reproduction:
    """An image that was made again, in part or as a whole, or asked of another registry.

    :param digest: of its manifest.
    :param again: the digest of the manifest that was made now, or that the other registry has;
        empty if there is none.
    :param deep: whether all of its closure that was built here was built again, rather than the
        packages that it names.
    :param against: the URL of the other registry; empty if it was made again here.
    :param began: seconds since the epoch.
    :param ended: seconds since the epoch.
    :param remark: what explains a difference, if anything does.
    :param address: the URL that the image names as its source; empty if it names none.
    """

    name: str
    tag: str
    digest: str
    again: str
    source: str
    revision: str
    deep: bool
    against: str
    began: float
    ended: float
    derivations: tuple[RebuiltDerivation, ...]
    layers: tuple[RepackedLayer, ...]
    remark: str = ""
    address: str = ""

    @property
    def outcome(self) -> Outcome:
        """``differs`` if anything does, ``failed`` if anything could not be made again."""
        outcomes = {each.outcome for each in self.derivations}
        outcomes |= {each.outcome for each in self.layers}
        if self.again and self.again != self.digest:
            outcomes.add("differs")
        worst: tuple[Outcome, ...] = ("differs", "failed")
        return next((each for each in worst if each in outcomes), "same")

    def faults(self) -> Iterator[str]:
        """The parts that are not the same, and why that may be."""
        for derivation in self.derivations:
            if derivation.outcome in ("differs", "failed"):
                name = store_name(derivation.derivation)
                yield f"{name} {derivation.outcome} ({derivation.detail})"
        for layer in self.layers:
            if layer.outcome != "same":
                yield f"layer {layer.digest} {layer.outcome}"
        if self.remark:
            yield self.remark

    def document(self) -> dict[str, Any]:
        """As JSON can hold it."""
        layers = [
            {**attrs.asdict(each), "outcome": each.outcome, "paths": list(each.paths)}
            for each in self.layers
        ]
        derivations = [attrs.asdict(each) for each in self.derivations]
        parts = {"outcome": self.outcome, "derivations": derivations, "layers": layers}
        return {**attrs.asdict(self, recurse=False), **parts}


def compared(manifest: Manifest, other: Manifest) -> tuple[RepackedLayer, ...]:
    """The layers of an image, compared with those of another registry's."""
    there = {str(blob.digest) for blob in other.blobs[1:]}
    own = [str(blob.digest) for blob in manifest.blobs[1:]]
    return tuple(RepackedLayer(digest, digest if digest in there else "") for digest in own)


PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
"""https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md"""
_RESULTS = {"same": "PASSED", "differs": "FAILED", "failed": "WARNED", "skipped": "WARNED"}


def predicate_of(made: Reproduction) -> dict[str, Any]:
    """A result as the predicate of an in-toto attestation: each derivation and layer is a test."""
    tests = [
        *((f"rebuild {each.derivation}", each.outcome) for each in made.derivations),
        *((f"repack {each.digest}", each.outcome) for each in made.layers),
        *([(f"manifest {made.digest}", _alike(made))] if made.again else []),
    ]
    return {
        "result": _RESULTS[made.outcome],
        "configuration": [
            {
                "uri": "urn:nixery:verification:v1",
                "annotations": {
                    **({"source": made.address} if made.address else {}),
                    "revision": made.revision,
                    "deep": made.deep,
                    **({"against": made.against} if made.against else {}),
                },
            }
        ],
        "passedTests": _with(tests, ["same"]),
        "warnedTests": _with(tests, ["failed", "skipped"]),
        "failedTests": _with(tests, ["differs"]),
    }


def _alike(made: Reproduction) -> Outcome:
    return "same" if made.again == made.digest else "differs"


def _with(tests: Iterable[tuple[str, Outcome]], outcomes: list[Outcome]) -> list[str]:
    return [name for name, outcome in tests if outcome in outcomes]
