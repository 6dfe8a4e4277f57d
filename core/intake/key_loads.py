"""Key loads: the load of each key, and which keys have more than an equal share of a limit."""

from collections.abc import Mapping

from core.db.queries import quotas


class KeyLoads:
    """The load of each key: as it was read from the database, and what was admitted since."""

    def __init__(self, loads: Mapping[str, quotas.Load]) -> None:
        self._loads = dict(loads)
        self.total = sum(loads.values(), quotas.NO_LOAD)

    def of(self, key: str) -> quotas.Load:
        """Return the load of a key."""
        return self._loads.get(key, quotas.NO_LOAD)

    def add(self, key: str, load: quotas.Load) -> None:
        """Count what was admitted."""
        self._loads[key] = self.of(key) + load
        self.total += load

    def is_above_share(self, key: str, load: quotas.Load, limit: float, unit: str) -> bool:
        """Return whether a key would have more of a limit than an equal share, among the keys that have any of it.

        A key that has none of it is always below its share, so it is never rejected.
        """
        own: float = getattr(self.of(key), unit)
        return own > 0 and own + getattr(load, unit) > limit / len(self._loads)
