"""Documents about images: the CPU time that they take, and how long the reactor would wait."""

import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from nixery.attest.image_documents import documents_of
from nixery.daemon import _SWITCH
from nixery.model.contents import pack_contents, unpack_contents
from tests.attest.samples import SUBJECT, many

_PAUSE = 0.0005


def main() -> None:
    sys.setswitchinterval(_SWITCH)
    for count in (60, 1000, 10_000):
        contents = many(count)
        packed = pack_contents(contents)
        documents = documents_of(contents, SUBJECT)
        sizes = ", ".join(f"{len(each.content) / 1e6:.2f} MB" for each in documents)
        print(f"{count} store paths: {sizes}; the record {len(packed) / 1000:.0f} KB")
        measure("SBOM in both formats, and provenance", partial(documents_of, contents, SUBJECT))
        measure("writing the record", partial(pack_contents, contents))
        measure("reading the record", partial(unpack_contents, packed))


def measure(what: str, work: Callable[[], object]) -> None:
    """Do some work in a thread, and see how late this one wakes up."""
    thread = threading.Thread(target=work)
    late = []
    began = time.process_time()
    thread.start()
    while thread.is_alive():
        before = time.perf_counter()
        time.sleep(_PAUSE)
        late.append(time.perf_counter() - before - _PAUSE)
    spent = time.process_time() - began
    late.sort()
    p99, most = (1000 * late[place] for place in (len(late) * 99 // 100, -1))
    text = (
        f"{1000 * spent:.1f} ms of CPU; another thread waits: p99 {p99:.1f} ms, most {most:.1f} ms"
    )
    print(f"  {what}: {text}")


if __name__ == "__main__":
    main()
