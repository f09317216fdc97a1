"""The files of a benchmark."""

import io
import json
from typing import Any

import numpy as np

from tfmeta.errors import DataError
from tfmeta.io import filesystem
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.evaluation_cell import EvaluationCell

_ARRAYS = ("value", "users", "user_row", "user_value")
_LABELS = ("state", "model", "role", "k", "seed", "selected", "uses_history", "features")


class Workspace:
    """A directory in which every finished trial and every finished cell is a file, written whole.

        OUT/data/                         prepared directories
        OUT/trials/<system>/<number>.json settings, value on validation, seconds
        OUT/cells/<system>/<seed>.json    settings, seconds, costs, metrics by state and k; beside it `.npz` by user
        OUT/runs/                         training runs of the cells
        OUT/results.json, report.md, report.html, *.png

    Processes may share it as long as no two work on the same system.

    Args:
      path: the directory.
    """

    def __init__(self, path: str):
        self.path = str(path).rstrip("/")

    def file(self, *parts: str) -> str:
        return filesystem.join(self.path, *parts)

    def trials(self, system: str, *, key: str | None = None) -> list[dict[str, Any]]:
        """Returns the finished trials of a system in order; those of other settings or data (`key`) are not its."""
        return self._records("trials", system, key)

    def write_trial(self, system: str, record: dict[str, Any]) -> None:
        """Keeps a finished trial; `record` has `number` and `key`."""
        self._write(self.file("trials", system, f"{record['number']:03d}.json"), record)

    def cells(self, system: str, *, key: str | None = None) -> list[dict[str, Any]]:
        """Returns the finished cells of a system by seed."""
        return self._records("cells", system, key)

    def write_cell(self, system: str, record: dict[str, Any], evaluation: Evaluation) -> None:
        """Keeps a finished cell; `record` has `seed` and `key`. The arrays come first: the JSON says all is there."""
        arrays, index = {}, []
        for number, cell in enumerate(evaluation.cells):
            index.append({**{name: getattr(cell, name) for name in _LABELS}, "metrics": list(cell.metrics)})
            arrays |= {f"{number}.{name}": getattr(cell, name) for name in _ARRAYS}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        filesystem.write_bytes(self.file("cells", system, f"{record['seed']}.npz"), buffer.getvalue())
        metrics = [{**{name: getattr(cell, name) for name in ("state", "model", "role", "k")},
                    **{m: _number(v) for m, v in zip(cell.metrics, cell.value, strict=True)}}
                   for cell in evaluation.cells if cell.model == system]
        self._write(self.file("cells", system, f"{record['seed']}.json"),
                    {**record, "metrics": metrics, "index": index})

    def evaluation(self, system: str, seed: int | str) -> Evaluation:
        """Returns the evaluation of a finished cell."""
        record = self._read(self.file("cells", system, f"{seed}.json"))
        arrays = np.load(io.BytesIO(filesystem.read_bytes(self.file("cells", system, f"{seed}.npz"))))
        return Evaluation(tuple(
            EvaluationCell(**{**labels, "metrics": tuple(labels["metrics"])},
                           **{name: arrays[f"{number}.{name}"] for name in _ARRAYS})
            for number, labels in enumerate(record["index"])))

    def systems(self, kind: str) -> list[str]:
        """Returns the systems that have files of a kind, `trials` or `cells`."""
        folder = self.file(kind)
        return sorted(filesystem.listdir(folder)) if filesystem.exists(folder) else []

    def _records(self, kind: str, system: str, key: str | None) -> list[dict[str, Any]]:
        folder = self.file(kind, system)
        if not filesystem.exists(folder):
            return []
        names = sorted(name for name in filesystem.listdir(folder) if name.endswith(".json"))
        records = [self._read(filesystem.join(folder, name)) for name in names]
        return [record for record in records if key is None or record["key"] == key]

    def _write(self, path: str, record: dict[str, Any]) -> None:
        filesystem.write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def _read(self, path: str) -> dict[str, Any]:
        try:
            return json.loads(filesystem.read_text(path))
        except ValueError as error:
            raise DataError(f"'{path}' requires JSON: {error}. Remove it; it is made again.") from None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
