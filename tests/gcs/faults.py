"""What goes wrong, and when: the same at every run."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, get_args

import attrs

from tests.gcs.answers import Answer, Asked, Refused

Fault = Literal[
    "503",  # an error of the server, before the effect
    "500",
    "429",  # too many requests, with Retry-After
    "401",  # the token is not good, this time
    "410",  # the upload's session is gone, this time
    "drop-before",  # the connection is lost before the effect
    "drop-midway",  # the connection is lost when half of the body has come
    "drop-after",  # the connection is lost after the effect, before the answer
    "hang",  # no answer, and no effect, until the server is told to release
    "hang-after",  # no answer until then, but the effect
    "short",  # only half of a chunk is kept, which the answer says
    "truncate",  # the connection is lost in the middle of the answer's body
    "flip",  # a bit of the content is another
    "lie",  # the checksum in the answer is another
    "error-200",  # an error, in an answer whose status was sent before (S3)
]

FAULTS: tuple[Fault, ...] = get_args(Fault)

_CHUNKS = ("upload.chunk",)
_SESSIONS = ("upload.chunk", "upload.status")
_CONTENT = ("object.media", "signed.get")
_LATE = ("upload.finish", "upload.copy", "object.rewrite")
_DESCRIBING = (
    *_CONTENT,
    "object.get",
    "upload.media",
    "upload.chunk",
    "upload.status",
    "upload.finish",
    "signed.head",
)
_NO_TOKEN = ("token", "signed.", "upload.chunk", "upload.status", "upload.cancel")
_KINDS: Mapping[str, tuple[str, ...]] = {
    "410": _SESSIONS,
    "drop-midway": ("upload.chunk", "upload.media", "signed.put"),
    "short": _CHUNKS,
    "flip": _CONTENT,
    "lie": _DESCRIBING,
    "error-200": _LATE,
}

ERRORS: Mapping[str, Refused] = {
    "503": Refused(503, "backendError", "Backend Error"),
    "500": Refused(500, "backendError", "Internal Error"),
    "429": Refused(
        *(429, "rateLimitExceeded", "Slow down.", "usageLimits"), headers={"Retry-After": "1"}
    ),
    "401": Refused(401, "authError", "Invalid Credentials"),
    "410": Refused(410, "uploadBroken", "The upload session is over."),
}


def fits(fault: Fault, kind: str) -> bool:
    """Whether a fault can befall a kind of request."""
    if fault == "401":
        return not kind.startswith(_NO_TOKEN)
    return kind in _KINDS.get(fault, (kind,))


@attrs.define
class Faults:
    """A schedule; one without any fault if nothing else is said.

    :ivar choose: says which fault befalls a request of a kind, if any.
    :ivar happened: the faults that befell requests: kind and fault.
    """

    choose: Callable[[str, Asked], Fault | None] = lambda kind, asked: None
    happened: list[tuple[str, Fault]] = attrs.field(factory=list)

    def next(self, kind: str, asked: Asked) -> Fault | None:
        """The fault that befalls a request now."""
        fault = self.choose(kind, asked)
        if fault is None or not fits(fault, kind):
            return None
        self.happened.append((kind, fault))
        return fault

    @classmethod
    def each_once(cls, faults: Sequence[Fault], kinds: Iterable[str] = ()) -> "Faults":
        """The n-th request of each kind meets the n-th of those faults that fit that kind; after
        the last one all goes well.

        :param kinds: the only kinds that meet any, if some are given.
        """
        return cls._each(faults, frozenset(kinds), lambda kind, asked: kind)

    @classmethod
    def each_request_once(cls, faults: Sequence[Fault], kinds: Iterable[str] = ()) -> "Faults":
        """As :meth:`each_once`, but each distinct request counts for itself: what is asked again
        in the same words meets the next fault."""

        def words(kind: str, asked: Asked) -> tuple[str, ...]:
            content_range = asked.headers.get("content-range", "")
            return (asked.method, asked.path, asked.raw_query, content_range)

        return cls._each(faults, frozenset(kinds), words)

    @classmethod
    def script(cls, **faults: Sequence[Fault | None]) -> "Faults":
        """The n-th request of a kind meets the n-th fault that is given for the kind, whose dot
        is written as an underscore."""
        left = {kind.replace("_", ".", 1): list(some) for kind, some in faults.items()}

        def choose(kind: str, asked: Asked) -> Fault | None:
            return left[kind].pop(0) if left.get(kind) else None

        return cls(choose)

    @classmethod
    def share(cls, share: float, faults: Sequence[Fault], seed: int = 0) -> "Faults":
        """A share of all requests meets one of some faults, by chance that is always the same."""
        chance = random.Random(seed)

        def choose(kind: str, asked: Asked) -> Fault | None:
            fault = chance.choice(faults)
            return fault if chance.random() < share else None

        return cls(choose)

    @classmethod
    def _each(
        cls,
        faults: Sequence[Fault],
        kinds: frozenset[str],
        signature: Callable[[str, Asked], object],
    ) -> "Faults":
        left: dict[object, list[Fault]] = defaultdict(lambda: list(faults))

        def choose(kind: str, asked: Asked) -> Fault | None:
            if kinds and kind not in kinds:
                return None
            waiting = left[signature(kind, asked)]
            while waiting:
                fault = waiting.pop(0)
                if fits(fault, kind):
                    return fault
            return None

        return cls(choose)


def damage(answer: Answer, fault: Fault | None) -> Answer:
    """The answer as it is after a fault: with another bit in it, or with a wrong checksum."""
    if fault == "flip" and answer.content and answer.body:
        middle = len(answer.body) // 2
        flipped = bytes([answer.body[middle] ^ 1])
        return attrs.evolve(answer, body=answer.body[:middle] + flipped + answer.body[middle + 1 :])
    if fault == "lie":
        wrong = "crc32c=AAAAAA==,md5=AAAAAAAAAAAAAAAAAAAAAA=="
        headers = dict(answer.headers)
        if "x-goog-hash" in headers:
            headers["x-goog-hash"] = wrong
        body = answer.body if answer.content else _lie(answer.body)
        return attrs.evolve(answer, headers=headers, body=body)
    return answer


def _lie(body: bytes) -> bytes:
    if not body.startswith(b"{"):
        return body
    document = json.loads(body)
    if "crc32c" in document:
        document.update(crc32c="AAAAAA==", md5Hash="AAAAAAAAAAAAAAAAAAAAAA==")
    return json.dumps(document).encode()
