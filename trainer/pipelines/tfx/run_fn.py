"""The user function of TFX's own Trainer: `Trainer(run_fn="trainer.pipelines.tfx.run_fn.run_fn", ...)`."""

import logging

from tfmeta import config as configs
from tfmeta.data.prepare import prepare
from tfmeta.errors import ConfigError
from tfmeta.io import filesystem
from trainer.pipelines.steps.train import training_config
from trainer.pipelines.tfx.example_reader import read_examples
from trainer.pipelines.tfx.trainer_settings import TrainerSettings

_LOG = logging.getLogger("trainer.pipelines")

# Below the ModelRun artifact.
PREPARED, RUN = "prepared", "run"


def run_fn(fn_args) -> None:
    """Prepares Examples of interactions, meta-trains and exports.

    Leaves `prepared/` and `run/` in the ModelRun artifact, for evaluation, and a verified SavedModel where the
    Trainer wants it. The splits that the Trainer was given are joined and split by user and item instead.

    Args:
      fn_args: `tfx.components.FnArgs`, of which are used `train_files`, `eval_files`, `schema_path`,
        `serving_model_dir`, `model_run_dir` and `custom_config` (see `TrainerSettings`).

    Raises:
      ConfigError, DataError: if custom_config does not fit, or the Examples cannot be read as it says.
      ExportError, RunError: if training or export fails.
    """
    # Here, so that what `custom_config` has wrong is found without them.
    from export.run_export import export_run
    from trainer.loop import train

    _require_nothing_else(fn_args)
    settings = configs.parse(TrainerSettings, fn_args.custom_config or {}, where="custom_config")
    config = training_config(settings.config, settings.train)
    raw = read_examples(list(dict.fromkeys([*fn_args.train_files, *(fn_args.eval_files or ())])),
                        schema=settings.schema or _schema(fn_args))
    prepared = prepare(raw=raw, out=filesystem.join(fn_args.model_run_dir, PREPARED), split=settings.split,
                       vocabulary=settings.vocabulary, dataset="examples", overwrite=True)
    result = train(config=config, data=prepared, run=filesystem.join(fn_args.model_run_dir, RUN), resume=True,
                   progress=False)
    _LOG.info("Run %s: %d epochs, hash %s", result.run, result.epochs, result.hash)
    # What an attempt that was cut off has left.
    filesystem.remove_tree(fn_args.serving_model_dir)
    export_run(result.run, model_base=fn_args.serving_model_dir, data=prepared.path, layout="flat",
               default_signature=settings.default_signature, item_features=settings.item_features,
               support_bound=settings.support_bound, top_k=settings.top_k)


def _schema(fn_args):
    from trainer.pipelines.tfx.schema_artifact import read_schema

    if not fn_args.schema_path:
        raise ConfigError("The Trainer requires a schema: give it the Schema artifact of interaction_example_gen, or "
                          "say in custom_config what the features are: {'schema': {...}}.")
    return read_schema(fn_args.schema_path)


def _require_nothing_else(fn_args) -> None:
    """Raises ConfigError where the Trainer was given something that would be ignored."""
    unused = {"train_args.num_steps": (fn_args.train_steps, "train.epochs in custom_config"),
              "eval_args.num_steps": (fn_args.eval_steps, "train.validation in custom_config"),
              "transform_graph": (fn_args.transform_graph_path, "raw Examples: the model transforms them itself"),
              "base_model": (fn_args.base_model, "none: training starts anew"),
              "hyperparameters": (fn_args.hyperparameters, "train in custom_config")}
    for name, (value, instead) in unused.items():
        if value:
            raise ConfigError(f"The Trainer's '{name}' has no meaning here, received {value!r}. Use {instead}.")
