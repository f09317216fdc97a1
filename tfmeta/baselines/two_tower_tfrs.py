"""A two-tower model trained through TensorFlow Recommenders."""

import dataclasses
import itertools
from typing import Any, ClassVar, Self

import numpy as np

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.biases import Biases
from tfmeta.baselines.positives import support_positives
from tfmeta.baselines.tfrs_bridge import import_tfrs, require_tfrs
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet

# Items of the query per task in training; retrieval takes one, so that a batch has as many users as it can.
_QUERY = 10
_CHUNK = 1 << 23


@dataclasses.dataclass
class TwoTowerTFRS(Baseline):
    """User and item towers joined by a dot product, trained on `tfrs.tasks.Ranking` or `Retrieval`.

        u = tower(user features) + sum_j w_j h_j / (n + damping),    j in the support
        v_i = tower(item features) + id embedding,    h_j = A v_j + a + second id embedding,    score = u . v_i + biases

    The user side reads features and the mean of the support's item embeddings (Covington, Adams and Sargin, "Deep
    Neural Networks for YouTube Recommendations", RecSys 2016, section 3.2), so a new user is scored without training;
    an id is never the user's representation. `w_j` is the label minus its damped item mean in standard
    deviations for ratings, the label otherwise. Ratings: `Ranking` with squared error, plus `retrieval_weight` times
    `Retrieval` of the relevant items. Implicit feedback: `Retrieval` alone, a softmax over the items of the batch
    with the correction for their popularity (Yi et al., "Sampling-bias-corrected neural modeling for large corpus
    item recommendations", RecSys 2019), without the user's other items and repeated ids. Supports are drawn with 0 to
    `support` items, item ids are hidden at random so that cold items live by content.

    Towers are the library's own Keras 3 encoders; only the tasks are TFRS's, because its `Model` cannot hold Keras 3
    layers. After `fit` scores are NumPy products of tables. Takes about a minute on MovieLens-1M on one core.

    Attributes:
      vector_dim, embedding_dim, units: widths of vectors, feature embeddings and hidden layers.
      epochs: passes over the users; for implicit feedback over four items of each.
      learning_rate, weight_decay: of AdamW, the rate with cosine decay.
      item_id_dropout: probability of hiding an item's id in a step.
      user_dropout: probability of hiding a user's features in a step: they can all but name a user, and the support
        is to speak.
      damping: of the mean of the support, in interactions.
      support: most support items in training.
      retrieval_weight: see above; ignored for implicit feedback. On MovieLens-1M's validation users `Ranking` alone is
        better: 0.1 took the item-cold MAE from .796 to .820, so 0 is the default and is not searched.
      batch_rows: (user, item) pairs in a step.
      seed: of initial values and draws.
    """

    vector_dim: int = 32
    embedding_dim: int = 16
    units: int = 64
    epochs: int = 20
    learning_rate: float = 3e-3
    weight_decay: float = 0.3
    item_id_dropout: float = 0.2
    user_dropout: float = 0.5
    damping: float = 3.0
    support: int = 80
    retrieval_weight: float = 0.0
    batch_rows: int = 640
    seed: int = 0

    name: ClassVar[str] = "two_tower_tfrs"
    by_default: ClassVar[bool] = False

    def __post_init__(self):
        # Said before anything is trained.
        require_tfrs()

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"epochs": e, "weight_decay": w, "item_id_dropout": d}
                for e, w, d in itertools.product((10, 20, 40), (0.1, 0.5), (0.2, 0.4))]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("vector_dim", "embedding_dim", "units", "epochs", "support", "batch_rows", minimum=1)
        self._require_positive("learning_rate", minimum=1e-9)
        self._require_positive("weight_decay", "item_id_dropout", "user_dropout", "damping", "retrieval_weight")
        import_tfrs()
        from tfmeta.baselines.two_tower_training import train_two_tower

        self.label = prepared.feature_spec.label
        self.label_unit = self.label.unit == "rating"
        biases = Biases.fit(prepared.train, num_users=len(prepared.users), num_items=len(prepared.items),
                            item_damping=5.0, user_damping=5.0)
        self.item_mean = np.float32(biases.mean) + biases.item_bias.astype(np.float32)
        self.user_table, self.item_table, self.history_table = train_two_tower(self, prepared)
        return self

    def support_weight(self, item: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Returns w of support rows, for items and labels of any shape."""
        if self.label.unit != "rating":
            return label
        return (label - self.item_mean[item]) / np.float32(self.label.std)

    @property
    def query_size(self) -> int:
        """Query items per task in training, at most."""
        return _QUERY if self.label.unit == "rating" else 1

    def user_vectors(self, tasks: TaskSet) -> np.ndarray:
        """Returns `[T, vector_dim + 2]` float64, the user tower's output for each task and its support."""
        real = np.arange(tasks.support_item.shape[1])[None, :] < tasks.support_length[:, None]
        if self.label.unit == "rating":
            label = np.where(real, tasks.support_label, 0.0)
            weight = np.where(real, self.support_weight(tasks.support_item, label), 0.0)
            total, count = np.zeros((len(tasks), self.history_table.shape[1])), tasks.support_length
            step = max(1, _CHUNK // (real.shape[1] * total.shape[1]))
            for start in range(0, len(tasks), step):
                rows = slice(start, start + step)
                total[rows] = np.einsum("ts,tsd->td", weight[rows], self.history_table[tasks.support_item[rows]])
        else:
            positives = support_positives(tasks, num_items=len(self.item_table) - 1, label=self.label)
            total, count = positives @ self.history_table, np.diff(positives.indptr)
        damped = np.maximum(count + self.damping, 1e-9)
        return self.user_table[tasks.user_row] + total / damped[:, None]

    def score(self, tasks: TaskSet) -> np.ndarray:
        user, size = self.user_vectors(tasks), len(self.item_table)
        score = np.empty(tasks.query_item.shape)
        # All items at once cost less than gathering many of them.
        everything = tasks.query_item.shape[1] * 8 > size
        step = max(1, _CHUNK // (size if everything else tasks.query_item.shape[1] * user.shape[1]))
        for start in range(0, len(tasks), step):
            rows = slice(start, start + step)
            if everything:
                score[rows] = np.take_along_axis(user[rows] @ self.item_table.T, tasks.query_item[rows] % size, axis=1)
            else:
                score[rows] = np.einsum("td,tqd->tq", user[rows], self.item_table[tasks.query_item[rows]])
        return score * self.label.std + self.label.mean if self.label_unit else score
