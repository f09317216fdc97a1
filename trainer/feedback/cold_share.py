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
    if not len(reference.interactions) or not len(current.interactions):
        users = current.users["user_id"].astype(str)
        known = set(reference.users["user_id"].astype(str))
        return ColdShare(float((~users.isin(known)).mean()) if len(users) else 0.0, 0.0, 0.0, 0.0, None)
    rows = [window.interactions for window in (reference, current)]
    users, items = (_codes(*(r[key] for r in rows)) for key in ("user_id", "item_id"))
    # Distinct pairs of user and item.
    pairs = [np.divmod(np.unique(u * items[1] + i), items[1]) for u, i in zip(users[0], items[0], strict=True)]
    known_user = np.bincount(pairs[0][0], minlength=users[1]) > 0
    item_users = np.bincount(pairs[0][1], minlength=items[1])
    unseen = [_per_user(pairs[0][0], item_users[pairs[0][1]] == 1),
              _per_user(pairs[1][0], item_users[pairs[1][1]] == 0)]
    p_value = None
    if min(map(len, unseen)) > 1:
        spread = np.sqrt(sum(v.var(ddof=1) / len(v) for v in unseen))
        difference = unseen[1].mean() - unseen[0].mean()
        p_value = float(scipy.stats.norm.sf(difference / spread)) if spread > 0 else float(difference <= 0)
    return ColdShare(
        users=float(np.mean(~known_user[np.unique(pairs[1][0])])),
        items=float(np.mean(item_users[np.unique(pairs[1][1])] == 0)), interactions=float(unseen[1].mean()),
        expected=float(unseen[0].mean()), p_value=p_value)


def _codes(*columns: pd.Series) -> tuple[list[np.ndarray], int]:
    """Returns the ids of each column as integers `[n]`, equal for ids that read the same, and how many there are."""
    parts = [pd.factorize(column) for column in columns]
    joint, distinct = pd.factorize(np.array([str(i) for _, ids in parts for i in ids], object))
    starts = np.cumsum([0] + [len(ids) for _, ids in parts])
    codes = [joint[start:][part].astype(np.int64) for (part, _), start in zip(parts, starts, strict=False)]
    return codes, len(distinct)


def _per_user(users: np.ndarray, flag: np.ndarray) -> np.ndarray:
    """Returns the mean of a flag for each user who occurs."""
    count = np.bincount(users)
    return (np.bincount(users, weights=flag)[count > 0] / count[count > 0]).astype(np.float64)
