"""Stops a run whose loss or gradient is not finite, and keeps the evidence."""

import io

import numpy as np

from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.errors import RunError
from tfmeta.io import filesystem
from trainer.outer_step import OuterStep


def check_finite(step: OuterStep, *, sampler: TaskSampler, learning_rate: float, folder: str,
                 write: bool = True) -> None:
    """Raises where a step has failed; its weights are those before it.

    The batch is a pure function of the step, so it is made again and written to `folder/step_<n>.npz`.

    Args:
      step: the step to look at.
      sampler: that made the batches.
      learning_rate: outer learning rate at the failed step.
      folder: where the batch is kept.
      write: whether this process writes it.

    Raises:
      RunError: naming the step, the learning rate and the file.
    """
    failed = int(step.failed_step)
    if failed < 0:
        return
    epoch, position = divmod(failed, sampler.steps_per_epoch)
    path = filesystem.join(folder, f"step_{failed}.npz")
    if write:
        save_batch(sampler.batch(epoch=epoch, batch=position), path=path)
    raise RunError(
        f"Training requires a finite loss and gradient, received loss {float(step.failed_loss):g} and gradient norm "
        f"{float(step.failed_norm):g} at step {failed} (epoch {epoch + 1}, batch {position + 1}) with learning rate "
        f"{learning_rate:g}. The batch is in '{path}' and the weights were not changed by it. Lower "
        "optimizer.learning_rate or learner.inner_learning_rate, or set learner.clip_norm.")


def save_batch(batch: IndexedTaskBatch, *, path: str) -> str:
    """Writes a batch as an npz file with one array per field and returns the path."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value) for name, value in batch._asdict().items()})
    filesystem.makedirs(path.rsplit("/", 1)[0])
    filesystem.write_bytes(path, buffer.getvalue())
    return path
