"""Which fault happens when: drawn from a seed before anything runs."""

import random

import attrs

# How often each kind comes in one round of them.
_DECK = {
    "kill nix KILL": 3,
    "kill nix TERM": 2,
    "kill builder KILL": 2,
    "kill builder TERM": 1,
    "kill git KILL": 2,
    "kill packer KILL": 2,
    "kill packer TERM": 1,
    "kill any KILL": 3,
    "daemon KILL": 1,
    "daemon TERM": 1,
    "disk full of bytes": 2,
    "disk full of files": 1,
    "flip blob": 4,
    "cut blob": 3,
    "delete blob": 3,
    "damage record": 3,
    "cut sockets": 4,
    "move package": 2,
    "move file": 1,
    "move history": 1,
}
KINDS = frozenset(_DECK)
_BETWEEN = 1.0  # seconds between two faults, on average
RESTARTS_UNTIL = 0.7
"""The share of a run in which the daemon is restarted: behind it, one process stands it all."""


@attrs.frozen
class Fault:
    """Something that goes wrong.

    :param at: seconds after the start.
    :param choice: from 0 to 1: chooses among what is there when it happens.
    :param extent: from 0 to 1: how long, how far or how much.
    """

    at: float
    kind: str
    choice: float
    extent: float


def draw(seed: int, seconds: float) -> list[Fault]:
    """The faults of a run, in their order; every kind comes in the first round."""
    source = random.Random(seed)
    faults: list[Fault] = []
    at = 0.0
    while True:
        for kind in _round(source):
            at += source.expovariate(1 / _BETWEEN)
            fault = Fault(at, kind, source.random(), source.random())
            if at >= seconds:
                return faults
            if not kind.startswith("daemon") or at < seconds * RESTARTS_UNTIL:
                faults.append(fault)


def _round(source: random.Random) -> list[str]:
    """Every kind as often as it is to come, those that restart the daemon in the first half."""
    kinds = [kind for kind, count in _DECK.items() for _ in range(count)]
    late = [kind for kind in kinds if not kind.startswith("daemon")]
    source.shuffle(late)
    for kind in kinds:
        if kind.startswith("daemon"):
            late.insert(source.randrange(len(late) // 2), kind)
    return late
