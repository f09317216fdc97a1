"""One window of time."""

import dataclasses
import datetime
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from trainer.feedback.event_log import EventLog


@dataclasses.dataclass(frozen=True)
class Window:
    """Who did what in a window of time.

    Attributes:
      users: `user_id` and a column per feature; users without interactions count only where nobody has any.
      items: `item_id` and a column per feature.
      interactions: `user_id, item_id, label` and, for the report alone, `time` in unix seconds.
    """

    users: pd.DataFrame
    items: pd.DataFrame
    interactions: pd.DataFrame

    @classmethod
    def from_log(cls, log: "EventLog", start: datetime.date | None, end: datetime.date | None) -> "Window":
        """Returns the outcomes of the days from `start` to `end`, both included, and who and what occurs in them."""
        rows = log.outcomes(start, end)
        users, items = log.users(), log.items()
        return cls(users=users[users["user_id"].isin(rows["user_id"].unique())],
                   items=items[items["item_id"].isin(rows["item_id"].unique())], interactions=rows)

    def summary(self) -> dict[str, Any]:
        """Returns `users, items, interactions, first, last`; the last two are days, None without times."""
        rows = self.interactions
        first = last = None
        if "time" in rows and len(rows):
            # Times that only tell the order (small numbers) are no dates worth naming.
            bounds = int(rows["time"].min()), int(rows["time"].max())
            if bounds[0] > 86_400 and bounds[1] < 7_258_118_400:
                first, last = (datetime.datetime.fromtimestamp(t, datetime.UTC).date().isoformat() for t in bounds)
        return {"users": self.active_users, "items": int(rows["item_id"].nunique()), "interactions": len(rows),
                "first": first, "last": last}

    @property
    def active_users(self) -> int:
        """Users with interactions; all users where there are none."""
        return int((self.interactions if len(self.interactions) else self.users)["user_id"].nunique())

    def user_weights(self) -> np.ndarray:
        """Returns `[interactions]` float64, the same for all of a user and 1 for all of them together."""
        return self._weights

    @functools.cached_property
    def _weights(self) -> np.ndarray:
        codes, _ = pd.factorize(self.interactions["user_id"])
        return 1.0 / np.bincount(codes)[codes]

    @functools.cached_property
    def _entities(self) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
        return {}

    def entities(self, side: str) -> tuple[pd.DataFrame, np.ndarray]:
        """Returns who of a side occurs, one row each, and how much each of them counts.

        Of users each counts once. Of items each user's interactions count once in all, so that the weights sum to the
        number of users: one busy user says no more of a window than another.

        Args:
          side: `user` or `item`.
        """
        if side not in self._entities:
            self._entities[side] = self._find(side)
        return self._entities[side]

    def _find(self, side: str) -> tuple[pd.DataFrame, np.ndarray]:
        key, frame = f"{side}_id", self.users if side == "user" else self.items
        frame = frame.assign(**{key: frame[key].astype(str)}).drop_duplicates(key, keep="last").set_index(key)
        if not len(self.interactions):
            weights = np.ones(len(frame)) if side == "user" else np.zeros(len(frame))
            return frame, weights
        codes, ids = pd.factorize(self.interactions[key])
        weights = np.ones(len(ids)) if side == "user" else np.bincount(codes, weights=self.user_weights())
        # In the order of the ids, so that the order of the interactions does not show.
        ids = np.array([str(i) for i in ids], object)
        order = np.argsort(ids, kind="stable")
        return frame.reindex(ids[order]), weights[order]
