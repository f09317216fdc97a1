"""The history of a run: one line an epoch, and TensorBoard."""

import json

import tensorflow as tf

from tfmeta.io import filesystem
from trainer.config import TensorBoardConfig


def write_history(path: str, records: list[dict]) -> None:
    """Writes all records as JSON lines; the file is replaced whole, so a reader never sees half a line."""
    filesystem.write_text(path, "".join(json.dumps(r) + "\n" for r in records))


class TensorBoardWriter:
    """Writes scalars of each epoch and histograms of the inner learning rates.

    Args:
      folder: where the event files go.
      config: the section `tensorboard`.
    """

    def __init__(self, folder: str, *, config: TensorBoardConfig):
        self._config = config
        self._writer = tf.summary.create_file_writer(folder) if config.enabled else None

    def epoch(self, record: dict, *, rates: dict[str, tf.Tensor]) -> None:
        """Writes one epoch: every number of the record, and the inner learning rates by fast weight."""
        if self._writer is None:
            return
        with self._writer.as_default(step=record["step"]):
            for key, value in record.items():
                if isinstance(value, float):
                    tf.summary.scalar(key.replace("val_", "validation/") if key.startswith("val_") else key, value)
            for name, rate in rates.items():
                tf.summary.scalar(f"inner_learning_rate/{name}", tf.reduce_mean(rate))
                if self._config.histograms:
                    tf.summary.histogram(f"inner_learning_rate/{name}/histogram", rate)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
