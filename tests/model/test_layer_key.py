"""The layer key, which stands for a layer's bytes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nixery.model.layer_key import layer_key
from nixery.model.source import canonical_json, canonical_sha256

ENTRIES = st.lists(st.tuples(st.text(max_size=3), st.integers()), max_size=6)


@given(st.lists(st.text()), ENTRIES, st.lists(st.integers(0, 6)), st.text())
def test_one_document(
    paths: list[str], entries: list[tuple[str, int]], cuts: list[int], packer: str
) -> None:
    """The key is the digest of one document, in however many pieces its entries came."""
    ends = sorted({0, *(min(cut, len(entries)) for cut in cuts), len(entries)})
    pieces = [canonical_json(entries[start:end]) for start, end in itertools.pairwise(ends)]
    whole = {"paths": sorted(paths), "entries": entries, "packer": packer}
    assert layer_key(packer, paths, pieces) == canonical_sha256(whole)


def test_keys_stay() -> None:
    """A key of today is one of tomorrow: what is stored under it is found again."""
    assert layer_key("p", ["/b", "/a"], ['[["x","file",420,"eA==\\n","",0]]']) == (
        "75c481c3df26e2d801e15ecfe5854e59d39c4d46f1e18522954f4e9bca356e15"
    )
