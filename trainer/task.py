"""Entry point of a training job: `python -m trainer.task`.

Trains, then exports. It runs on Vertex AI custom training, where the service names the places in environment
variables, and anywhere else with the same flags; flags come before the environment. Every path may be anything
that `tf.io.gfile` opens. A job that was pre-empted and is started again goes on where it was.

A trial of a hyper-parameter tuning job (CLOUD_ML_TRIAL_ID) gets its settings as flags, --optimizer.learning_rate=0.01
or --optimizer__learning_rate=0.01, and reports the validation metric after every epoch.

Where TF_CONFIG names several workers they share every meta-batch; worker 0, or the chief, alone prepares data, writes
and exports, into places that all of them see. When one is lost all end, and are to be started again.
"""

import argparse
import dataclasses
import json
import logging
import os
import posixpath
import sys
from collections.abc import Mapping, Sequence

from tfmeta.cli import CommandParser
from tfmeta.data.prepared_data import MANIFEST, PreparedData
from tfmeta.errors import ConfigError, RunError, TfmetaError
from tfmeta.io import filesystem
from tfmeta.quiet import quiet_tensorflow
from trainer.trial_report import TrialReport
from trainer.vertex_environment import VertexEnvironment

_LOG = logging.getLogger("trainer.task")

_EPILOG = """\
examples:
  python -m trainer.task --data gs://bucket/prepared --work-dir gs://bucket/job1
  python -m trainer.task --data 'gs://bucket/export/training-*.csv' --schema gs://bucket/schema.yaml
  AIP_MODEL_DIR=gs://bucket/job1/model AIP_TRAINING_DATA_URI=gs://bucket/prepared python -m trainer.task

The work directory holds run/ (the run directory) and, for raw data, prepared/."""


def main(argv: Sequence[str] | None = None, *, environ: Mapping[str, str] | None = None) -> int:
    """Runs a training job.

    Args:
      argv: flags; those of the process by default.
      environ: environment; that of the process by default.

    Returns:
      0, or 2 after an error that is the caller's to mend.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    args.overrides += _trial_settings(parser, rest)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    quiet_tensorflow()
    try:
        _run(args, os.environ if environ is None else environ)
    except TfmetaError as error:
        print(f"trainer.task: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m trainer.task", description=__doc__.split("\n\n", 1)[1], epilog=_EPILOG)
    parser.add_argument("--config", metavar="FILE", help="training configuration; default: built-in defaults")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="override one setting; repeatable")
    parser.add_argument("--data", metavar="URI", help="prepared directory, or raw data as files, a glob or a "
                        "directory (default: AIP_TRAINING_DATA_URI)")
    parser.add_argument("--schema", metavar="FILE", help="what raw data looks like")
    parser.add_argument("--reader", choices=("csv", "parquet"), help="of raw data; default by name or "
                        "AIP_DATA_FORMAT")
    parser.add_argument("--work-dir", metavar="DIR", help="default: the folder of the model directory")
    parser.add_argument("--model-dir", metavar="DIR", help="where the SavedModel goes (default: AIP_MODEL_DIR)")
    parser.add_argument("--checkpoint-dir", metavar="DIR", help="default: AIP_CHECKPOINT_DIR, else in the run")
    parser.add_argument("--tensorboard-dir", metavar="DIR",
                        help="default: AIP_TENSORBOARD_LOG_DIR, else in the run")
    parser.add_argument("--trial-metric", metavar="NAME", help="what a trial reports, such as val_auc (default: "
                        "the one of early stopping)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def _trial_settings(parser: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """Returns what a tuning service added to the command line as overrides; any other word ends the process."""
    from trainer.config import TrainConfig

    sections = {field.name for field in dataclasses.fields(TrainConfig)}
    found = []
    for word in words:
        name, sign, value = word.removeprefix("--").partition("=")
        path = name.replace("__", ".")
        if not (word.startswith("--") and sign and path.partition(".")[0] in sections):
            parser.error(f"unrecognized argument: {word}")
        # Services write whole numbers of a discrete parameter as floats.
        found.append(f"{path}={value.removesuffix('.0') if value.removesuffix('.0').isdecimal() else value}")
    return found


def _run(args: argparse.Namespace, environ: Mapping[str, str]) -> None:
    from trainer.config import load_config
    from trainer.distribution.open_distribution import open_distribution
    from trainer.evaluation.positives_only import default_metric
    from trainer.loop import train

    environment = VertexEnvironment.read(environ)
    config = load_config(args.config, overrides=args.overrides)
    model_dir = args.model_dir or environment.model_dir
    work = args.work_dir or (_parent(model_dir) if model_dir else None)
    if not work:
        raise ConfigError("A training job requires a place for its run: give --work-dir, or a model directory by "
                          "--model-dir or AIP_MODEL_DIR.")
    distribution = open_distribution(config.distribution, cluster=environment.cluster)
    prepared = PreparedData(distribution.from_chief(lambda: _prepared(args, environment, work=work).path))
    trial = TrialReport.read(environ, metric=args.trial_metric or "val_" + default_metric(
        prepared.tasks("validation"), prepared.feature_spec.label))
    if trial is not None and not len(prepared.tasks("validation")):
        raise ConfigError(f"A trial requires validation tasks, '{prepared.path}' has none. Prepare data with them.")

    def on_epoch(record: dict) -> None:
        _log_epoch(record)
        if trial is not None:
            trial.epoch(record)

    result = train(config=config, data=prepared, run=filesystem.join(work, "run"), resume=True,
                   progress=sys.stderr.isatty(), on_epoch=on_epoch,
                   checkpoint_dir=args.checkpoint_dir or environment.checkpoint_dir,
                   tensorboard_dir=args.tensorboard_dir or environment.tensorboard_dir, distribution=distribution)
    if distribution.is_chief:
        if trial is not None and trial.metric == result.metric:
            # The last measurement counts, and the weights are those of the best epoch.
            trial.measure(result.best, step=result.steps)
        _report(result, args, model_dir=model_dir, data=prepared.path)
    distribution.part()


def _report(result, args: argparse.Namespace, *, model_dir: str | None, data: str) -> None:
    """Exports the run where that is asked for, and prints what came out."""
    _LOG.info("Run %s is complete: %d epochs, hash %s", result.run, result.epochs, result.hash)
    exported = None
    if model_dir:
        exported = _export(result.run, model_dir=model_dir, data=data)
    if args.json:
        print(json.dumps({**dataclasses.asdict(result), "model_dir": exported}))


def _export(run: str, *, model_dir: str, data: str) -> str:
    from export.run_export import export_run

    if filesystem.exists(filesystem.join(model_dir, "saved_model.pb")):
        # Written last and verified: the job was started again after it had finished.
        _LOG.info("%s holds a model already", model_dir)
        return model_dir
    # Services create the directory beforehand, and an interrupted copy leaves parts.
    filesystem.remove_tree(model_dir)
    path = export_run(run, model_base=model_dir, data=data, layout="flat")
    _LOG.info("Exported to %s", path)
    return path


def _prepared(args: argparse.Namespace, environment: VertexEnvironment, *, work: str) -> PreparedData:
    """Returns the prepared data, prepared first where raw data is given."""
    uri = args.data or environment.training_data
    if not uri:
        raise ConfigError("A training job requires data: give --data or AIP_TRAINING_DATA_URI.")
    if filesystem.exists(filesystem.join(uri, MANIFEST)):
        return PreparedData(uri)
    out = filesystem.join(work, "prepared")
    if filesystem.exists(filesystem.join(out, MANIFEST)):
        _LOG.info("Using the data prepared before in %s", out)
        return PreparedData(out)
    if not args.schema:
        raise ConfigError(f"'{uri}' is not a prepared directory (it has no {MANIFEST}), and raw data requires "
                          "--schema.")
    siblings = [] if args.data else [environment.validation_data, environment.test_data]
    uris = list(dict.fromkeys(u for u in (uri, *siblings) if u))
    if len(uris) > 1:
        _LOG.info("The service split rows into %d parts; they are joined and split by user instead, because rows of "
                  "one user in several parts would leak", len(uris))
    return _prepare_raw(uris, args=args, environment=environment, out=out)


def _prepare_raw(uris: list[str], *, args: argparse.Namespace, environment: VertexEnvironment,
                 out: str) -> PreparedData:
    from tfmeta.data.prepare_dataset import prepare_dataset
    from tfmeta.data.schema import Schema

    reader = args.reader or _reader(uris[0], None if args.data else environment.data_format)
    schema = Schema.from_yaml(args.schema)
    if len(uris) == 1 and filesystem.is_dir(uris[0]):
        source = uris[0]
    else:
        uris = [u if filesystem.is_remote(u) else os.path.abspath(u) for u in uris]
        source = _common_folder(uris)
        schema = dataclasses.replace(schema, interactions=tuple(u[len(source):].lstrip("/") for u in uris))
    return prepare_dataset(dataset=reader, out=out, source=source, schema=schema, progress=sys.stderr.isatty())


def _reader(uri: str, data_format: str | None) -> str:
    if data_format is not None and data_format != "csv":
        raise ConfigError(f"AIP_DATA_FORMAT requires 'csv', received '{data_format}'. Let the service export CSV, or "
                          "give prepared data.")
    return "parquet" if uri.endswith(".parquet") else "csv"


def _common_folder(uris: list[str]) -> str:
    scheme = uris[0].partition("://")[0] + "://" if filesystem.is_remote(uris[0]) else ""
    folders = [_parent(u) for u in uris]
    if any(not u.startswith(scheme) for u in uris) or len({filesystem.is_remote(u) for u in uris}) > 1:
        raise ConfigError(f"The parts of the data require one file system, received {', '.join(uris)}.")
    return scheme + posixpath.commonpath([f.removeprefix(scheme) for f in folders])


def _parent(path: str) -> str:
    head, separator, _ = path.rstrip("/").rpartition("/")
    if filesystem.is_remote(path):
        if head.endswith(":/") or not head:
            raise RunError(f"'{path}' requires a folder above it.")
        return head
    return head or (separator or ".")


def _log_epoch(record: dict) -> None:
    shown = (f"{k} {v:.5g}" for k, v in record.items() if isinstance(v, float) and "_cold_" not in k)
    _LOG.info("epoch %d: %s", record["epoch"], ", ".join(shown))


if __name__ == "__main__":
    raise SystemExit(main())
