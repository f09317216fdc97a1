"""Exports a training run."""

import json

from export.exporter import export_model
from tfmeta import config
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import ExportError
from tfmeta.io import filesystem
from trainer.run_directory import RunDirectory


def export_run(run_path: str, *, model_base: str, data: str | None = None, **options) -> str:
    """Exports the weights of a complete run, with its configuration and metrics beside the graph.

    Args:
      run_path: the run directory.
      model_base: see `export_model`.
      data: the prepared directory, if it is no longer where the run found it.
      **options: of `export_model`.

    Returns:
      the model's directory.

    Raises:
      RunError: if the run is not complete.
      DataError: if the prepared directory is absent or damaged.
      ExportError: if the prepared directory is not the one of the run, and as `export_model` does.
    """
    run = RunDirectory.open(run_path)
    prepared = PreparedData(data or run.data_path)
    if prepared.training_fingerprint() != run.training_fingerprint:
        raise ExportError(f"Run '{run.path}' was trained on other data than '{prepared.path}' holds. Pass the run's "
                          "own prepared directory with --data.")
    evaluation = run.file("evaluation.json")
    metrics = json.loads(filesystem.read_text(evaluation)) if filesystem.exists(evaluation) else None
    return export_model(run.recommender(), items=prepared.items, model_base=model_base,
                        run={"run": run.summary, "training_config": config.to_dict(run.config), "metrics": metrics},
                        **options)
