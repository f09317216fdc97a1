"""Users and items that the reference has not seen."""

import dataclasses

import numpy as np
import pandas as pd
import scipy.stats

from trainer.feedback.drift_window import Window


@dataclasses.dataclass(frozen=True)
class ColdShare:
    """How much of the current window is new.

    New users are this product's business and no drift. Nor are rare items: the share of interactions with unseen items
    is compared with what the reference would show of itself.

    Attributes:
      users: share of the current users that the reference does not have.
      items: share of the current items that it does not have.
      interactions: share of interactions with such items, every user counting once.
      expected: the same within the reference, each user against all others: what one more user of it would show
        (Good, "The population frequencies of species", 1953, by users instead of by draws).
      p_value: one-sided Welch test over users of `interactions` against `expected`; None where a window has fewer
        than two users.
      verdict: `stable`, `moderate` or `shifted`, by the excess over `expected` and the thresholds of the index.
    """

    users: float
    items: float
    interactions: float
    expected: float
    p_value: float | None
    verdict: str = "stable"

    @property
    def excess(self) -> float:
        return max(0.0, self.interactions - self.expected)


def cold_share(reference: Window, current: Window) -> ColdShare:
    """Returns what of the current window is new; zeros where it has no interactions."""
    before, now = (w.interactions[["user_id", "item_id"]].astype(str).drop_duplicates() for w in (reference, current))
    if not len(before) or not len(now):
        users = current.users["user_id"].astype(str)
        known = set(reference.users["user_id"].astype(str))
        return ColdShare(float((~users.isin(known)).mean()) if len(users) else 0.0, 0.0, 0.0, 0.0, None)
    users, items = now["user_id"].drop_duplicates(), now["item_id"].drop_duplicates()
    seen = ~now["item_id"].isin(before["item_id"].unique())
    alone = before.groupby("item_id")["user_id"].transform("size") == 1
    unseen = [_per_user(frame["user_id"], flag) for frame, flag in ((before, alone), (now, seen))]
    p_value = None
    if min(map(len, unseen)) > 1:
        spread = np.sqrt(sum(v.var(ddof=1) / len(v) for v in unseen))
        difference = unseen[1].mean() - unseen[0].mean()
        p_value = float(scipy.stats.norm.sf(difference / spread)) if spread > 0 else float(difference <= 0)
    return ColdShare(
        users=float((~users.isin(before["user_id"].unique())).mean()),
        items=float((~items.isin(before["item_id"].unique())).mean()), interactions=float(unseen[1].mean()),
        expected=float(unseen[0].mean()), p_value=p_value)


def _per_user(users: pd.Series, flag: pd.Series) -> np.ndarray:
    return flag.groupby(users.to_numpy()).mean().to_numpy(np.float64)
