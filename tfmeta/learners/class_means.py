"""What a support set says by class: the mean item of each class and how often the class occurs."""

import itertools
import math
from collections.abc import Callable

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.label import Label
from tfmeta.learners.support_rows import damped_mean
from tfmeta.learners.task_tensors import Support


class ClassMeans(keras.layers.Layer):
    """Represents a user's history by one item representation per class.

        R_c = sum_{j: class(y_j) = c} F(v_j) / (n_c + tau_c),     share_c = n_c / (n + tau_share)

    Source: Vartak et al., "A Meta-Learning Perspective on Cold-Start Recommendations for Items", NeurIPS 2017, section
    3: R_c is the mean over the class's items, here with learned tau, which stands for that many items of
    representation zero; the shares are ours.

    A rating becomes a class by boundaries in the label's own unit: class c holds the labels from boundary c - 1 up to
    below boundary c. One boundary, the label's threshold, gives the paper's two classes.

    Args:
      label: of the data.
      boundaries: ascending, within the label's range; None takes the threshold.
      shrinkage: initial tau > 0, or 0 for plain means without a weight.

    Raises:
      ConfigError: if a value is out of range.
    """

    def __init__(self, label: Label, *, boundaries: tuple[float, ...] | None, shrinkage: float, **kwargs):
        super().__init__(name="class_means", **kwargs)
        chosen = (label.threshold,) if boundaries is None else tuple(boundaries)
        require(bool(chosen) and all(a < b for a, b in itertools.pairwise(chosen)),
                "learner.boundaries", "one or more ascending labels", boundaries)
        require(all(label.minimum < b <= label.maximum for b in chosen), "learner.boundaries",
                f"labels above {label.minimum} and up to {label.maximum}", boundaries)
        require(shrinkage >= 0, "learner.shrinkage", "0 or more interactions", shrinkage)
        self.classes = len(chosen) + 1
        self._shrinkage = shrinkage
        mean, std = (label.mean, label.std) if label.unit == "rating" else (0.0, 1.0)
        # A label that lies on a boundary is above it, whichever way its target was rounded.
        tolerance = 1e-4 * (label.maximum - label.minimum)
        self._boundaries = [(b - tolerance - mean) / std for b in chosen]
        self.log_shrinkage = self.add_weight(
            name="log_shrinkage", shape=(self.classes + 1,),
            initializer=keras.initializers.Constant(math.log(shrinkage))) if shrinkage else None
        self.built = True

    def summarise(self, sums: Callable[[tf.Tensor], tf.Tensor], support: Support) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns R `[B, classes, D]` and share `[B, classes]`, in the dtype of the targets.

        A method of its own name, because Keras would cast the targets to a compute dtype that cannot tell labels apart.

        Args:
          sums: of F(v_j): each row's share of each class `[B, classes, S]`, 0 for padding -> `[B, classes, D]`.
          support: whose targets and lengths count.
        """
        dtype = support.target.dtype
        number = tf.reduce_sum(tf.cast(support.target[..., None] >= tf.constant(self._boundaries, dtype), tf.int32), -1)
        mask = tf.sequence_mask(support.length, tf.shape(support.target)[1], dtype=tf.int32)
        # A padded row belongs to no class.
        member = tf.one_hot(mask * (number + 1) - 1, self.classes, axis=1, dtype=dtype)
        shrinkage = tf.zeros([self.classes + 1], dtype)
        if self.log_shrinkage is not None:
            shrinkage = tf.exp(tf.convert_to_tensor(self.log_shrinkage))
        count = tf.reduce_sum(member, axis=2)
        means = damped_mean(sums(member), count, shrinkage[:-1])
        total = tf.cast(support.length, dtype)
        return means, damped_mean(count, total, shrinkage[-1])
