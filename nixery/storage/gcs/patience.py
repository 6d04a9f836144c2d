"""How long to go on after faults that may pass."""

import random

import attrs


@attrs.frozen
class Patience:
    """How long to go on after faults that may pass.

    :param tries: the most, the first included.
    :param total: seconds after which there is no further try.
    :param first: seconds before the second try; each further wait is twice as long.
    :param longest: seconds, the longest wait.
    :param limit: seconds that one request may take.
    """

    tries: int = 5
    total: float = 20
    first: float = 0.4
    longest: float = 6
    limit: float = 10

    def quick(self) -> "Patience":
        """For what can be done without: less of it."""
        limit = min(self.limit, 4)
        return attrs.evolve(self, tries=min(self.tries, 3), total=2 * limit, limit=limit)

    def wait(self, tried: int, asked: float = 0) -> float:
        """Seconds to wait after so many tries, by chance more or less.

        :param asked: seconds that the server wants to be left alone.
        """
        wait = min(self.longest, self.first * 2.0 ** (tried - 1)) * random.uniform(0.5, 1)
        return max(wait, min(asked, self.longest))
