"""The step from an evaluated run to a verified SavedModel."""

from tfmeta.io import filesystem
from trainer.pipelines.serving_container import serving_container


def export(*, serving: str, serving_image: str, default_signature: str, item_features: str, support_bound: int,
           top_k: int, evaluated, prepared, model) -> None:
    """Exports a run, verified in a second process.

    Args:
      serving, serving_image: see `serving_container`; they decide the layout of `model`.
      default_signature, item_features, support_bound, top_k: as of `tfmeta export`.
      evaluated: the run.
      prepared: its prepared directory.
      model: gets MODEL_BASE with version 1, or the model itself; its metadata is what Vertex AI's model upload reads.

    Raises:
      ConfigError, DataError, ExportError, RunError: as `export_run` does.
    """
    from export.run_export import export_run

    container = serving_container(serving, image=serving_image)
    # What an attempt that was cut off has left: nobody is given an artifact before its step ends.
    filesystem.remove_tree(model.path)
    path = export_run(evaluated.path, model_base=model.path, data=prepared.path, layout=container.layout,
                      version=1 if container.layout == "versioned" else None, default_signature=default_signature,
                      item_features=item_features, support_bound=support_bound, top_k=top_k)
    model.metadata |= {**evaluated.metadata, "framework": "TensorFlow", "containerSpec": container.spec,
                       "savedModel": filesystem.basename(path) if container.layout == "versioned" else "."}
