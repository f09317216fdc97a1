"""The directory of a training run."""

import contextlib
import functools
import json
import os

import yaml

from tfmeta import config as configs
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import RunError
from tfmeta.io import filesystem
from trainer.config import TrainConfig


class RunDirectory:
    """Reads and writes a run.

        config.yaml          the TrainConfig, whole
        feature_spec.json    the FeatureSpec
        data.json            {"path", "training_fingerprint"} of the prepared data
        history.jsonl        one line an epoch
        checkpoints/         for --resume
        best/weights.npz     the best epoch's weights so far, where validation chooses
        weights.npz          the final weights, array name = variable path
        tensorboard/         event files
        nan/                 the batch at which a run failed
        run.json             written last: the run is complete; hash, best metric, epochs, seconds

    Use `open` to read a run and `create` to start one.
    """

    def __init__(self, path: str):
        self.path = str(path).rstrip("/")

    @classmethod
    def open(cls, path: str, *, allow_incomplete: bool = False) -> "RunDirectory":
        """Opens a run.

        Args:
          path: the directory.
          allow_incomplete: also a run that is under way or was cut off.

        Raises:
          RunError: if there is no run, or it is not complete.
        """
        run = cls(path)
        if not run.exists:
            raise RunError(f"'{run.path}' is not a run directory: it has no config.yaml. "
                           "Create one with 'tfmeta train'.")
        if not allow_incomplete and not run.complete:
            raise RunError(f"Run '{run.path}' is not complete: it has no run.json. "
                           "Continue it with 'tfmeta train --resume' and the same options.")
        return run

    @classmethod
    def create(cls, path: str, *, config: TrainConfig, feature_spec: FeatureSpec, data_path: str,
               training_fingerprint: str, resume: bool = False) -> "RunDirectory":
        """Starts a run, or opens the same run again.

        Args:
          path: the directory; absent or empty unless `resume`.
          config, feature_spec: of the run.
          data_path, training_fingerprint: of the prepared data.
          resume: continue a run that is there. One cut off before it had written its configuration starts anew.

        Raises:
          RunError: if something is there and `resume` is off, or the run there has another configuration or
            other data.
        """
        run = cls(path)
        if filesystem.exists(run.path) and (not filesystem.is_dir(run.path) or filesystem.listdir(run.path)):
            if not resume:
                raise RunError(f"Run directory '{run.path}' exists already. Continue that run with --resume, or "
                               "choose another directory.")
            if run.exists:
                run._require_same(config, feature_spec, training_fingerprint)
                return run
        filesystem.makedirs(run.path)
        if not filesystem.is_remote(data_path):
            data_path = os.path.abspath(data_path)
        filesystem.write_text(run.file("feature_spec.json"), feature_spec.to_json())
        filesystem.write_text(run.file("data.json"), json.dumps(
            {"path": data_path, "training_fingerprint": training_fingerprint}, indent=2))
        # Last of the three: its presence says that all are there.
        filesystem.write_text(run.file("config.yaml"), yaml.safe_dump(configs.to_dict(config), sort_keys=False))
        return run

    def discard(self) -> None:
        """Removes what `create` writes, and the directory if nothing else is in it."""
        for name in ("config.yaml", "data.json", "feature_spec.json"):
            filesystem.remove_tree(self.file(name))
        if not filesystem.listdir(self.path):
            filesystem.remove_tree(self.path)

    def file(self, *parts: str) -> str:
        """Returns the path of a file of the run."""
        return filesystem.join(self.path, *parts)

    @property
    def exists(self) -> bool:
        """Whether a run has been started here."""
        return filesystem.exists(self.file("config.yaml"))

    @property
    def complete(self) -> bool:
        return filesystem.exists(self.file("run.json"))

    @functools.cached_property
    def config(self) -> TrainConfig:
        return configs.parse(TrainConfig, configs.load_yaml(self.file("config.yaml")))

    @functools.cached_property
    def feature_spec(self) -> FeatureSpec:
        return FeatureSpec.from_json(self.text("feature_spec.json"))

    @functools.cached_property
    def data(self) -> dict:
        """`path` and `training_fingerprint` of the prepared data."""
        return json.loads(self.text("data.json"))

    @property
    def data_path(self) -> str:
        """Where the prepared data was; only a default, since it may have moved."""
        return self.data["path"]

    @property
    def training_fingerprint(self) -> str:
        return self.data["training_fingerprint"]

    @property
    def summary(self) -> dict:
        """The content of run.json.

        Raises:
          RunError: if the run is not complete.
        """
        if not self.complete:
            raise RunError(f"Run '{self.path}' is not complete: it has no run.json.")
        return json.loads(self.text("run.json"))

    def history(self) -> list[dict]:
        """Returns one record per complete epoch."""
        if not filesystem.exists(self.file("history.jsonl")):
            return []
        return [json.loads(line) for line in self.text("history.jsonl").splitlines()]

    def recommender(self):
        """Returns the recommender with the run's final weights.

        Raises:
          RunError: if the weights are absent or do not fit.
        """
        from trainer.weights import load_weights

        recommender = build_from_config(self.config, self.feature_spec)
        load_weights(recommender, self.file("weights.npz"))
        return recommender

    def text(self, name: str) -> str:
        """Returns the content of a file of the run.

        Raises:
          RunError: if it is missing.
        """
        if not filesystem.exists(self.file(name)):
            raise RunError(f"Run '{self.path}' is damaged: '{name}' is missing.")
        return filesystem.read_text(self.file(name))

    def _require_same(self, config: TrainConfig, feature_spec: FeatureSpec, fingerprint: str) -> None:
        before, now = flatten(outcome_settings(self.config)), flatten(outcome_settings(config))
        changes = [f"{key}: {before.get(key, 'absent')} -> {now.get(key, 'absent')}"
                   for key in sorted(set(before) | set(now))
                   if before.get(key, "absent") != now.get(key, "absent")]
        if changes:
            raise RunError(f"Resuming run '{self.path}' requires its own configuration; these differ: "
                           f"{'; '.join(changes)}. Undo the changes, or start a new run.")
        if self.feature_spec != feature_spec:
            raise RunError(f"Resuming run '{self.path}' requires its own feature specification; that of the data "
                           "given differs. Give the prepared data it was started with, or start a new run.")
        if self.training_fingerprint != fingerprint:
            raise RunError(
                f"Resuming run '{self.path}' requires the training data it was started with ('{self.data_path}', "
                f"fingerprint {self.training_fingerprint[:12]}), received fingerprint {fingerprint[:12]}.")


def build_from_config(config: TrainConfig, feature_spec: FeatureSpec):
    """Returns a new recommender with initial weights, in the configured precision."""
    from tfmeta.models.recommender import build_recommender

    with _dtype_policy(config.precision):
        return build_recommender(feature_spec, model=config.model, learner=config.learner, seed=config.seed)


@contextlib.contextmanager
def _dtype_policy(name: str):
    """Layers take their policy when they are made; the process's own is put back afterwards."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def outcome_settings(config: TrainConfig) -> dict:
    """Returns the settings that decide a run's outcome: all but on what it is trained."""
    return {name: value for name, value in configs.to_dict(config).items() if name != "distribution"}


def flatten(values: dict, prefix: str = "") -> dict:
    """Returns nested settings as one mapping, `section.key` -> value."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
