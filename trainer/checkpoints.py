"""Saves and restores everything that a run needs to continue to the same bits."""

import tensorflow as tf

from trainer.outer_step import OuterStep
from trainer.training_state import TrainingState


class Checkpoints:
    """Checkpoints of weights, optimizer, position and state, the last `keep` of them.

    A checkpoint counts only once the directory's `checkpoint` file names it, which is replaced in one rename;
    a process killed while it writes leaves the one before in force.

    Args:
      folder: on any file system that `tf.io.gfile` opens.
      recommender, optimizer: whose variables are saved.
      step: whose position and running loss are saved.
      state: saved and restored with them.
      keep: how many are kept.
    """

    def __init__(self, folder: str, *, recommender, optimizer, step: OuterStep, state: TrainingState, keep: int):
        self._step, self._state = step, state
        self._text = tf.Variable("", dtype=tf.string, trainable=False, name="state")
        self._checkpoint = tf.train.Checkpoint(
            model=_by_path(recommender.variables), optimizer=_by_path(optimizer.variables),
            step=step.step, loss_sum=step.loss_sum, tasks=step.tasks, state=self._text)
        self._manager = tf.train.CheckpointManager(self._checkpoint, folder, max_to_keep=keep)

    @property
    def latest(self) -> str | None:
        """Path of the newest checkpoint, None where there is none."""
        return self._manager.latest_checkpoint

    def save(self) -> None:
        """Saves the present moment."""
        with tf.device("/CPU:0"):
            self._text.assign(self._state.to_json())
        self._manager.save(checkpoint_number=int(self._step.step))

    def restore(self) -> bool:
        """Returns to the newest checkpoint; False where there is none.

        Raises:
          RunError: if it belongs to another run.
        """
        if self.latest is None:
            return False
        # The state first: its identity explains a mismatch better than a list of variables would.
        text = tf.train.load_checkpoint(self.latest).get_tensor("state/.ATTRIBUTES/VARIABLE_VALUE")
        self._state.restore(text.decode("utf-8"))
        self._checkpoint.restore(self.latest).assert_consumed()
        return True


def _by_path(variables) -> dict[str, tf.Variable]:
    return {v.path: v.value for v in variables}
