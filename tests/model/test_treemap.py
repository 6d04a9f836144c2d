"""Rectangles in proportion to weights."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nixery.model.treemap import Rectangle, squarified

weights = st.lists(st.integers(1, 10**12), max_size=60)
wholes = st.builds(
    Rectangle,
    left=st.floats(-100, 100),
    top=st.floats(-100, 100),
    width=st.floats(1, 2000),
    height=st.floats(1, 2000),
)


def is_close(one: float, other: float, whole: Rectangle) -> bool:
    return abs(one - other) <= 1e-9 * (whole.area + 1)


@given(weights, wholes)
def test_areas_are_in_proportion(weights: list[int], whole: Rectangle) -> None:
    """Each weight has its share of the area, in its own place of the list."""
    tiles = squarified(weights, whole)
    assert len(tiles) == len(weights)
    for weight, tile in zip(weights, tiles, strict=True):
        assert is_close(tile.area, whole.area * weight / sum(weights), whole)


@given(weights, wholes)
def test_nothing_overlaps_or_is_outside(weights: list[int], whole: Rectangle) -> None:
    """All rectangles lie within the whole, and no two have more than an edge in common."""
    tiles = squarified(weights, whole)
    slack = 1e-7 * max(whole.width, whole.height)
    for tile in tiles:
        assert tile.left >= whole.left - slack
        assert tile.top >= whole.top - slack
        assert tile.left + tile.width <= whole.left + whole.width + slack
        assert tile.top + tile.height <= whole.top + whole.height + slack
    for number, one in enumerate(tiles):
        for other in tiles[number + 1 :]:
            across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
            down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
            assert min(across, down) <= slack


def ratio(tile: Rectangle) -> float:
    return max(tile.width / tile.height, tile.height / tile.width)


@given(st.integers(2, 200))
def test_equal_weights_become_nearly_square(count: int) -> None:
    """No side of many equal areas in a square is more than three times the other."""
    tiles = squarified([1] * count, Rectangle(0, 0, 100, 100))
    assert max(map(ratio, tiles)) < 3.001


def test_the_example_of_the_authors() -> None:
    """6, 6, 4, 3, 2, 2, 1 in 6 by 4 are laid as in the paper: two columns' worth, rows, a rest."""
    tiles = squarified([6, 6, 4, 3, 2, 2, 1], Rectangle(0, 0, 6, 4))
    sides = [(round(tile.width, 2), round(tile.height, 2)) for tile in tiles]
    assert sides[:5] == [(3, 2), (3, 2), (1.71, 2.33), (1.29, 2.33), (1.2, 1.67)]
    assert all(one.area >= other.area - 1e-9 for one, other in pairwise(tiles))
