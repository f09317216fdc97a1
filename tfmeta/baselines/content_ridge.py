"""Item biases predicted from content, for items nobody has rated yet."""

import dataclasses
import itertools
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse.linalg

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.biases import Biases
from tfmeta.baselines.content_matrix import content_matrix
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass
class ContentRidge(Baseline):
    """Damped biases whose item prior is a ridge regression on item features.

        beta = argmin sum_i w_i (b_i - c - x_i . beta)^2 + ridge mean(w) |beta|^2,   w_i = n_i / (n_i + saturation)
        score(u, i) = mean + b'_i + b_u,   b'_i = (sum_u (y_ui - mean - b_u) + item_damping (c + x_i . beta))
                                                  / (n_i + item_damping)

    Source: the biases are those of Koren, "Factorization meets the neighborhood", KDD 2008, section 2.1 (see `Biases`),
    the prior of an item's bias is ridge regression (Hoerl and Kennard, Technometrics 1970); putting them together is
    ours.

    The regression predicts each trained item's bias from its features, weighted by `n / (n + saturation)` for `n`
    interactions: a large saturation fits the interactions, a small one the items. Items with few interactions shrink
    towards the prediction, an item without any has it as its bias. The user's bias comes from the support, cold items
    included.

    Attributes:
      ridge: penalty of the content weights, in items of mean weight.
      saturation: interactions at which an item has half of the largest weight.
      item_damping: interactions' worth of shrinkage of an item's bias towards its content.
      user_damping: interactions' worth of shrinkage of a user's bias towards 0.
    """

    ridge: float = 15.0
    saturation: float = 3000.0
    item_damping: float = 5.0
    user_damping: float = 4.0

    name: ClassVar[str] = "content_ridge"
    made_for: ClassVar[tuple[str, ...]] = ("rating", "click")

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"ridge": r, "saturation": s, "user_damping": u}
                for r, s, u in itertools.product((3.0, 7.0, 15.0), (300.0, 3000.0), (2.0, 4.0))]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("ridge", "saturation", minimum=1e-9)
        self._require_positive("item_damping", "user_damping")
        train, num_users, num_items = prepared.train, len(prepared.users), len(prepared.items)
        count = np.bincount(train.item_row, minlength=num_items + 1)
        content = content_matrix(prepared.items, prepared.feature_spec.item_features, fitted=count[:-1] > 0)
        damping = {"item_damping": self.item_damping, "user_damping": self.user_damping}
        first = Biases.fit(train, num_users=num_users, num_items=num_items, **damping)
        # Undamped: the regression's own weights say how well each is known.
        bias = first.item_bias * (count + self.item_damping) / np.maximum(count, 1)
        weight = count / (count + self.saturation)
        weight /= max(weight[count > 0].mean(), 1e-9) if count.any() else 1.0
        root = np.sqrt(weight)
        center = (weight @ bias) / max(weight.sum(), 1e-9)
        weighted = scipy.sparse.diags(root) @ content
        weights = scipy.sparse.linalg.lsqr(weighted, root * (bias - center), damp=np.sqrt(self.ridge),
                                           atol=1e-10, btol=1e-10, iter_lim=500)[0]
        prior = center + content @ weights
        self.biases = Biases.fit(train, num_users=num_users, num_items=num_items, item_prior=prior, **damping)
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        return (self.biases.mean + self.biases.item_bias[tasks.query_item]
                + self.biases.fold_in(tasks)[:, None])
