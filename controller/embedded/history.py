"""Time series of the embedded cluster in SQLite: what pages draw. Older values are thinned, the oldest forgotten."""

from collections.abc import Iterable, Mapping

from controller.embedded.store import Store

Point = tuple[float, float]
Row = tuple[str, str, float]
"""Metric, subject, value."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS series (metric TEXT, subject TEXT, at_s REAL, value REAL,
    PRIMARY KEY (metric, subject, at_s)) WITHOUT ROWID
"""
_KEPT_S = 14 * 86_400.0
_SWEEP_S = 3_600.0


class SeriesHistory:
    """Kept by metric and subject. `rows` recorded together are of one moment."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[str, dict[str, float]] = {}
        self._swept_s = 0.0
        store.execute(_SCHEMA, [()])
        for metric, subject, value in store.query(
            "SELECT metric, subject, value FROM series s WHERE at_s = (SELECT max(at_s) FROM series"
            " WHERE metric = s.metric AND subject = s.subject)"
        ):
            self._latest.setdefault(metric, {})[subject] = value

    def record(self, at_s: float, rows: Iterable[Row], whole: bool = False) -> None:
        """Keep some values of one moment. `whole`: what is not among them has no last one."""
        kept = [(metric, subject, at_s, value) for metric, subject, value in rows if value == value]
        if whole:
            self._latest = {}
        for metric, subject, _, value in kept:
            self._latest.setdefault(metric, {})[subject] = value
        self._store.execute("REPLACE INTO series VALUES (?, ?, ?, ?)", kept)
        if at_s - self._swept_s > _SWEEP_S:
            self._swept_s = at_s
            self._store.execute("DELETE FROM series WHERE at_s < ?", [(at_s - _KEPT_S,)])

    def series(self, metric: str, subject: str, start_s: float, end_s: float, points: int = 240) -> tuple[Point, ...]:
        """Means over at most `points` equal parts of a time; parts without a value are left out."""
        width_s = max((end_s - start_s) / max(points, 1), 1e-9)
        rows = self._store.query(
            "SELECT avg(at_s), avg(value) FROM series WHERE metric = ? AND subject = ? AND at_s BETWEEN ? AND ?"
            " GROUP BY CAST((at_s - ?) / ? AS INTEGER) ORDER BY 1",
            (metric, subject, start_s, end_s, start_s, width_s),
        )
        return tuple((float(at_s), float(value)) for at_s, value in rows)

    def latest(self, metric: str) -> Mapping[str, float]:
        """Subject -> its last value."""
        return dict(self._latest.get(metric, {}))

    def forget(self, subject: str) -> None:
        """A subject is gone: it has no last value any more."""
        for values in self._latest.values():
            values.pop(subject, None)
