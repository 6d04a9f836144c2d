"""Tables of what was measured."""

from benchmarks.scores import Goal, Numbers, at_most


def test_ratios_are_those_of_each_round() -> None:
    """A round in which the machine was slow changes no ratio, and little of a median."""
    numbers = Numbers()
    for slow, mine, theirs in ((1, 20, 10), (10, 20, 10), (1, 22, 11)):
        numbers.add("rate", "this", mine / slow)
        numbers.add("rate", "other", theirs / slow)
    assert numbers.ratio("rate", "this", "other") == 2
    assert numbers.median("rate", "this") == 20
    assert numbers.ratio("rate", "this", "nobody") is None


def test_goals_are_judged() -> None:
    """Each goal of a row is reached, missed, or not known, in its order."""
    numbers = Numbers()
    for name, number in (("this", 1234.5), ("other", 0.5)):
        numbers.add("a row", name, number)
    goals = [Goal(3, "other"), at_most(3, "other"), at_most(1235), Goal(1, "nobody")]
    head, _, row = numbers.table({"a row": goals}, ["this", "other"], ["other"]).splitlines()
    assert head == "|  | this | other | times other | goal |  |"
    assert row == (
        "| a row | 1,234 | 0.5 | 2,469 | ≥ 3 × other, ≤ 3 × other, ≤ 1235, ≥ 1 × nobody "
        "| reached, MISSED, reached, – |"
    )


def test_rows_without_goals() -> None:
    """Where nothing is to be reached there is no column for it."""
    numbers = Numbers()
    numbers.add("a row", "this", 2)
    assert numbers.table({"a row": []}, ["this"]) == "|  | this |\n| --- | --- |\n| a row | 2 |"
