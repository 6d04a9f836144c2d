"""Treemaps: rectangles that tile an area in proportion to weights, as square as they can be."""

from collections.abc import Sequence

import attrs


@attrs.frozen
class Rectangle:
    """A rectangle whose sides are parallel to the axes.

    :param left: the distance from the vertical axis, to the right.
    :param top: the distance from the horizontal axis, downward.
    """

    left: float
    top: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Width times height."""
        return self.width * self.height


def squarified(weights: Sequence[float], whole: Rectangle) -> list[Rectangle]:
    """Tile a rectangle: an area for each weight, in proportion.

    The algorithm of Bruls, Huizing and van Wijk (*Squarified Treemaps*, 2000): rows are laid along
    the shorter side of what is left, each with as many areas as make its worst one squarer.

    :param weights: positive. The areas become squarest where the greatest comes first.
    :return: the rectangles in the order of the weights.
    """
    left, tiles, first = whole, list[Rectangle](), 0
    scale = whole.area / sum(weights) if weights else 0.0
    areas = [weight * scale for weight in weights]
    while first < len(areas):
        end = _row_end(areas, first, min(left.width, left.height))
        row = areas[first:end]
        # What is left over is rounding alone: the last row takes it.
        depth = sum(row) / min(left.width, left.height) if end < len(areas) else None
        placed, left = _row(row, left, depth)
        tiles += placed
        first = end
    return tiles


def _row_end(areas: Sequence[float], first: int, side: float) -> int:
    """The end of the row that begins with an area."""
    total = least = greatest = areas[first]
    worst = _worst(total, least, greatest, side)
    for place in range(first + 1, len(areas)):
        area = areas[place]
        total, least, greatest = total + area, min(least, area), max(greatest, area)
        longer = _worst(total, least, greatest, side)
        if longer > worst:
            return place
        worst = longer
    return len(areas)


def _worst(total: float, least: float, greatest: float, side: float) -> float:
    """The greatest ratio of two sides in a row along a side."""
    thick = (total / side) ** 2
    return max(greatest / thick, thick / least)


def _row(
    areas: Sequence[float], within: Rectangle, depth: float | None
) -> tuple[list[Rectangle], Rectangle]:
    """Lay a row along the shorter side.

    :param depth: of the row; none for all that there is.
    :return: its rectangles, and what is left.
    """
    upright = within.width >= within.height  # a column at the left, else a row at the top
    side = within.height if upright else within.width
    deep = (within.width if upright else within.height) if depth is None else depth
    total, before, at, tiles = sum(areas), 0.0, 0.0, list[Rectangle]()
    for area in areas:
        before += area
        end = side * before / total
        if upright:
            tiles.append(Rectangle(within.left, within.top + at, deep, end - at))
        else:
            tiles.append(Rectangle(within.left + at, within.top, end - at, deep))
        at = end
    if upright:
        rest = attrs.evolve(within, left=within.left + deep, width=within.width - deep)
    else:
        rest = attrs.evolve(within, top=within.top + deep, height=within.height - deep)
    return tiles, rest
