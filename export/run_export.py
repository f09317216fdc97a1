"""Exports a training run."""

import json

from export import gate
from export.exporter import export_model
from export.items.item_file import read_items
from export.retrieval import embeddings
from tfmeta import config
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import ExportError
from tfmeta.io import filesystem
from trainer.run_directory import RunDirectory


def export_run(run_path: str, *, model_base: str, data: str | None = None, gated: bool = False,
               items: str | None = None, **options) -> str:
    """Exports the weights of a complete run, with its configuration and metrics beside the graph.

    Args:
      run_path: the run directory.
      model_base: see `export_model`.
      data: the prepared directory, if it is no longer where the run found it.
      gated: export only what its evaluation speaks for, see `export.gate.check`.
      items: Parquet file with another catalogue than the prepared directory's, see `export.items.item_file`; the
        directory is then not needed.
      **options: of `export_model`.

    Returns:
      the model's directory.

    Raises:
      RunError: if the run is not complete.
      DataError: if the prepared directory is absent or damaged.
      ExportError: if the prepared directory is not the one of the run, the gate keeps the run back, and as
        `export_model` does.
    """
    run = RunDirectory.open(run_path)
    metrics = _evaluation(run)
    if gated:
        if metrics is None:
            raise ExportError(f"The gate requires an evaluation, run '{run.path}' has none. Make it with 'tfmeta "
                              f"evaluate --run {run.path}'.")
        gate.check(metrics).require_passed(run.path)
    recommender, prepared = run.recommender(), None
    if items is None or data is not None:
        prepared = PreparedData(data or run.data_path)
        if prepared.training_fingerprint() != run.training_fingerprint:
            raise ExportError(f"Run '{run.path}' was trained on other data than '{prepared.path}' holds. Pass the "
                              "run's own prepared directory with --data.")
    catalogue = prepared.items if items is None else read_items(items, feature_spec=recommender.feature_spec)
    about = {"run": run.summary, "training_config": config.to_dict(run.config), "metrics": metrics,
             "data": prepared.summary if prepared else None}
    if items is not None and recommender.learner.has_index:
        options["item_embeddings"] = options.get("item_embeddings") or embeddings.BESIDE
    return export_model(recommender, items=catalogue, model_base=model_base, run=about, **options)


def _evaluation(run: RunDirectory) -> dict | None:
    path = run.file("evaluation.json")
    if not filesystem.exists(path):
        return None
    try:
        return json.loads(filesystem.read_text(path))
    except ValueError as error:
        raise ExportError(f"'{path}' requires JSON: {error}. Evaluate the run again.") from None
