"""Numbers of several servers side by side, and tables of them in Markdown."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

import attrs


@attrs.frozen
class Goal:
    """How a number should compare.

    :param ratio: to the number of another column; the number itself if there is no other.
    """

    ratio: float
    other: str = ""
    at_most: bool = False

    def reached(self, found: float) -> bool:
        return found <= self.ratio if self.at_most else found >= self.ratio

    def __str__(self) -> str:
        of = f" × {self.other}" if self.other else ""
        return f"{'≤' if self.at_most else '≥'} {self.ratio:g}{of}"


def at_most(ratio: float, other: str = "") -> Goal:
    return Goal(ratio, other, at_most=True)


class Numbers:
    """Measurements: row → column → a number for each round."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, row: str, column: str, number: float) -> None:
        """Add the next round's number."""
        self._rows[row][column].append(number)

    def median(self, row: str, column: str) -> float | None:
        """The median of a row's numbers; none if there are none."""
        found = self._rows[row].get(column)
        return statistics.median(found) if found else None

    def ratio(self, row: str, column: str, other: str) -> float | None:
        """The median of the ratios of each round: what slows a whole round down does not matter."""
        mine, theirs = (self._rows[row].get(each) for each in (column, other))
        if not mine or not theirs:
            return None
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))

    def table(
        self, rows: Mapping[str, Sequence[Goal]], columns: Sequence[str], others: Sequence[str] = ()
    ) -> str:
        """A table of some rows.

        :param rows: and what is to be reached by the first of the columns.
        :param others: the columns that it is compared with.
        """
        with_goals = any(rows.values())
        compared = [f"times {other}" for other in others]
        lines = [["", *columns, *compared, *(["goal", ""] if with_goals else [])]]
        lines.append(["---"] * len(lines[0]))
        for row, goals in rows.items():
            shown = [_short(self.median(row, column)) for column in columns]
            ratios = [_short(self.ratio(row, columns[0], other)) for other in others]
            line = [row, *shown, *ratios]
            if with_goals:
                found = [self._compared(row, columns[0], goal) for goal in goals]
                line += [", ".join(map(str, goals)), _judged(goals, found)]
            lines.append(line)
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _compared(self, row: str, column: str, goal: Goal) -> float | None:
        if goal.other:
            return self.ratio(row, column, goal.other)
        return self.median(row, column)


def _judged(goals: Sequence[Goal], found: Sequence[float | None]) -> str:
    words = [
        "–" if number is None else "reached" if goal.reached(number) else "MISSED"
        for goal, number in zip(goals, found, strict=True)
    ]
    return ", ".join(words)


def _short(number: float | None) -> str:
    """Three digits that count."""
    if number is None:
        return "–"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
