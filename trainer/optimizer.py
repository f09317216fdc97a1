"""The outer optimizer and its learning-rate schedule."""

import keras
import tensorflow as tf

from tfmeta import config as configs
from trainer.config import OptimizerConfig
from trainer.distribution.summed_gradients import with_summed_gradients
from trainer.lazy_adam import LazyAdam


def build_optimizer(config: OptimizerConfig, *, schedule: "LearningRate", variables: list, exempt: list,
                    summed: bool = False):
    """Returns a built Keras optimizer.

    `adam` and `adamw` are `LazyAdam`: Keras's Adam for dense gradients, by rows for those of embedding tables. `sgd`
    without momentum updates tables by rows too, which gives the same numbers as a dense update (its weight decay
    is that of whole tables). All others take dense gradients and update whole tables, so that a step's time grows
    with them.

    Args:
      config: the section `optimizer`.
      schedule: its learning rate.
      variables: trainable Keras variables, in a fixed order.
      exempt: those of them that no weight decay touches.
      summed: gradients will be sums over all replicas of a strategy already.
    """
    classes = {"adam": LazyAdam, "adamw": LazyAdam, "sgd": keras.optimizers.SGD,
               "adagrad": keras.optimizers.Adagrad, "rmsprop": keras.optimizers.RMSprop,
               "nadam": keras.optimizers.Nadam, "lion": keras.optimizers.Lion}
    options = {"momentum": config.momentum} if config.momentum else {}
    if config.weight_decay or config.name == "adamw":
        options["weight_decay"] = config.weight_decay
    # Checkpoints know an optimizer's variables by its name; Keras would number the optimizers of a process.
    chosen = with_summed_gradients(classes[config.name]) if summed else classes[config.name]
    optimizer = chosen(learning_rate=schedule, name="outer", **options)
    if config.weight_decay and exempt:
        optimizer.exclude_from_weight_decay(var_list=exempt)
    optimizer.build(variables)
    return optimizer


def updates_by_rows(optimizer) -> bool:
    """Tells whether an optimizer takes `tf.IndexedSlices` and then leaves the other rows alone."""
    return isinstance(optimizer, LazyAdam) or (
        isinstance(optimizer, keras.optimizers.SGD) and optimizer.momentum == 0)


def exempt_from_decay(recommender) -> list:
    """Returns the variables that are no kernels or tables: vectors, scalars and the learner's own parameters.

    Decay would pull learned logarithms of inner rates towards 0, a rate of 1.
    """
    of_model = {id(v) for v in recommender.model.trainable_variables}
    return [v for v in recommender.trainable_variables if id(v) not in of_model or len(v.shape) < 2]


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then constant, a half cosine or an exponential down to `final_fraction` at the last step.

    Args:
      config: the section `optimizer`.
      total_steps: outer steps of the whole run.
    """

    def __init__(self, config: OptimizerConfig, *, total_steps: int):
        self.config, self.total_steps = config, total_steps

    def __call__(self, step):
        """Returns the float32 learning rate at an outer step, from 0."""
        c = self.config
        step = tf.cast(tf.convert_to_tensor(step), tf.float32)
        rate = tf.constant(c.learning_rate, tf.float32)
        if c.schedule != "constant":
            length = max(1, self.total_steps - 1 - c.warmup_steps)
            progress = tf.clip_by_value((step - c.warmup_steps) / length, 0.0, 1.0)
            if c.schedule == "cosine":
                cosine = 0.5 * (1.0 + tf.cos(3.141592653589793 * progress))
                rate *= c.final_fraction + (1.0 - c.final_fraction) * cosine
            else:
                rate *= tf.pow(tf.constant(c.final_fraction, tf.float32), progress)
        if c.warmup_steps:
            rate *= tf.minimum(1.0, (step + 1.0) / c.warmup_steps)
        return rate

    def get_config(self):
        return {"config": configs.to_dict(self.config), "total_steps": self.total_steps}
