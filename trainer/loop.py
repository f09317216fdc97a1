"""Meta-training: from prepared data and a configuration to a complete run directory."""

import dataclasses
import functools
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable

import tensorflow as tf
from tqdm import tqdm

from tfmeta import __version__
from tfmeta.data.build_task_sampler import build_task_sampler
from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import ConfigError, DataError, RunError
from tfmeta.io import filesystem
from trainer.checkpoints import Checkpoints
from trainer.config import TrainConfig
from trainer.distribution.agreement import create_run, require_agreement, require_divisible
from trainer.distribution.cluster import Cluster
from trainer.distribution.distributed_outer_step import DistributedOuterStep
from trainer.distribution.distribution import Distribution
from trainer.distribution.open_distribution import open_distribution
from trainer.early_stopping import EarlyStopping
from trainer.history import TensorBoardWriter, write_history
from trainer.nan_guard import check_finite
from trainer.op_determinism import op_determinism
from trainer.optimizer import LearningRate, build_optimizer, exempt_from_decay
from trainer.outer_step import OuterStep
from trainer.resolve_learner import resolve_learner
from trainer.run_directory import RunDirectory, build_from_config, outcome_settings
from trainer.start import Start
from trainer.tensor_memory import keep_tensor_memory
from trainer.train_result import TrainResult
from trainer.training_state import TrainingState
from trainer.validation import Validation
from trainer.weights import hash_run, load_weights, save_weights

# Steps between looks at the loss: each look waits for the device.
_LOOK_EVERY = 50


@keep_tensor_memory()
def train(*, config: TrainConfig, data: PreparedData | str, run: str, resume: bool = False, progress: bool = True,
          checkpoint_dir: str | None = None, tensorboard_dir: str | None = None,
          on_epoch: Callable[[dict], None] | None = None, distribution: Distribution | None = None,
          start: Start | None = None) -> TrainResult:
    """Trains a recommender and writes its run directory.

    A process killed at any moment and started again with `resume` ends with the same bits as one never killed
    (same machine, `config.deterministic`). Where the data has validation tasks the final weights are those of the
    best epoch; where it has none, training lasts `config.epochs` epochs and the last weights are final.

    Args:
      config: everything that decides the outcome; a learner without a name is chosen by the data.
      data: a prepared directory or its path.
      run: directory to create; on any file system that `tf.io.gfile` opens.
      resume: continue the run that is there; a complete one is returned as it is.
      progress: show a progress bar on standard error.
      checkpoint_dir, tensorboard_dir: other places than `run/checkpoints` and `run/tensorboard`.
      on_epoch: called with the history's record after every epoch, on the chief; what it raises ends the training.
      distribution: what `open_distribution` gave; default what `config.distribution` and TF_CONFIG ask for. Every
        worker calls this function alike; prepared data, run and checkpoints are in places that all of them see, and
        the chief alone writes.
      start: initial weights and tasks other than those of `config`, for training that goes on from an earlier run.

    Returns:
      the outcome; `RunDirectory.open(run)` has the rest.

    Raises:
      RunError: if the directory is taken, the run to resume differs, or a loss is not finite.
      ConfigError, DataError: if the configuration does not fit the data.
    """
    distribution = distribution or open_distribution(config.distribution, cluster=Cluster.read(os.environ))
    prepared = data if isinstance(data, PreparedData) else PreparedData(data)
    spec = prepared.feature_spec
    config = resolve_learner(_with_learner_of(run, config) if resume else config, prepared)
    given = {"config": config, "feature_spec": spec, "training_fingerprint": prepared.training_fingerprint()}
    require_agreement(distribution, **given)
    require_divisible(distribution, config.sampler.meta_batch_size)
    fresh = distribution.is_chief and not RunDirectory(run).exists
    directory = create_run(distribution, run, data_path=prepared.path, resume=resume, **given)
    if distribution.from_chief(lambda: directory.complete):
        return _result(directory)
    with op_determinism(config.deterministic), distribution.guard():
        try:
            training = _Training(
                directory, prepared=prepared, progress=progress, on_epoch=on_epoch, distribution=distribution,
                start=start, checkpoint_dir=checkpoint_dir or directory.file("checkpoints"),
                tensorboard_dir=tensorboard_dir or directory.file("tensorboard"))
        except (ConfigError, DataError):
            # Nothing was trained: the place stays free for a configuration that fits.
            if fresh:
                directory.discard()
            raise
        return training.run()


def _with_learner_of(run: str, config: TrainConfig) -> TrainConfig:
    """Returns the configuration with the learner of the run that goes on, where it names none of its own.

    What is chosen for a configuration without a learner may be another one in a later version of the library.
    """
    directory = RunDirectory(run)
    if "name" in config.learner or not directory.exists:
        return config
    chosen = directory.config.learner
    agrees = all(chosen.get(key) == value for key, value in config.learner.items())
    return dataclasses.replace(config, learner=chosen) if agrees else config


class _Training:
    """One process's share of a run: from the last checkpoint, or the start, to the end."""

    def __init__(self, directory: RunDirectory, *, prepared: PreparedData, progress: bool,
                 on_epoch: Callable[[dict], None] | None, checkpoint_dir: str, tensorboard_dir: str,
                 distribution: Distribution, start: Start | None):
        config, spec = directory.config, directory.feature_spec
        self._directory, self._config, self._on_epoch, self._distribution = directory, config, on_epoch, distribution
        self._chief, self._progress = distribution.is_chief, progress and distribution.is_chief
        self._start = start
        make_sampler = build_task_sampler if start is None else start.sampler
        self._sampler = make_sampler(prepared, config=config.sampler, label=spec.label, seed=config.seed)
        self._steps_per_epoch = self._sampler.steps_per_epoch
        self._total = config.epochs * self._steps_per_epoch
        self._schedule = LearningRate(config.optimizer, total_steps=self._total)
        strategy = distribution.strategy
        with distribution.scope():
            self._recommender = build_from_config(config, spec)
            if start is not None:
                start.initialise(self._recommender)
            self._optimizer = build_optimizer(
                config.optimizer, schedule=self._schedule, variables=self._recommender.trainable_variables,
                exempt=exempt_from_decay(self._recommender), summed=strategy is not None)
        tables = FeatureTables.from_prepared(prepared, feature_spec=spec)
        outer_step = OuterStep if strategy is None else functools.partial(DistributedOuterStep, strategy=strategy)
        self._step = outer_step(self._recommender, optimizer=self._optimizer, tables=tables,
                                clip_norm=config.optimizer.clip_norm, dropout=config.item_id_dropout,
                                seed=config.seed, dropout_spread=config.item_id_dropout_spread,
                                total_steps=self._total,
                                support_width=config.sampler.support_width if config.xla else None,
                                trained_items=prepared.training_rows.item_counts() > 0
                                if self._recommender.learner.over_catalogue else None)
        self._validation = Validation(prepared.tasks("validation"), recommender=self._recommender, tables=tables,
                                      config=config.validation, seed=config.seed, training=prepared.training_rows)
        self._state = TrainingState(identity=_identity(directory, start))
        if self._validation and config.early_stopping:
            self._state.early_stopping = EarlyStopping.create(config.early_stopping,
                                                               default=self._validation.default_metric)
            self._state.early_stopping.check_metric(self._validation.metrics)
            self._validation.require_defined(self._state.early_stopping.metric)
        self._checkpoints = Checkpoints(checkpoint_dir, recommender=self._recommender, optimizer=self._optimizer,
                                        step=self._step, state=self._state, keep=config.checkpoint.keep)
        self._tensorboard_dir = tensorboard_dir

    def run(self) -> TrainResult:
        self._checkpoints.restore()
        self._require_one_position()
        self._began = time.monotonic() - self._state.seconds
        board = TensorBoardWriter(self._tensorboard_dir, config=self._config.tensorboard) if self._chief else None
        done = int(self._step.step)
        batches = self._sampler.batches(start_step=done, stop_step=self._total)
        with tqdm(total=self._total, initial=done, unit="step", file=sys.stderr, disable=not self._progress,
                  dynamic_ncols=True) as bar:
            while self._state.epochs_done < self._config.epochs and not self._state.stopped:
                self._epoch(batches, bar, board)
        if board is not None:
            board.close()
        try:
            self._distribution.from_chief(self._finish)
        except RunError:
            # Whoever knew before this process that the run is complete may have left meanwhile.
            if not self._directory.complete:
                raise
        return _result(self._directory)

    def _require_one_position(self) -> None:
        """Raises RunError unless all workers go on from the same checkpoint."""
        steps = self._distribution.gather_texts(str(int(self._step.step)))
        if len(set(steps)) > 1:
            raise RunError("Resuming on several workers requires a checkpoint directory that all of them see; they "
                           f"found checkpoints of step {', '.join(steps)}. Use a shared file system or a bucket.")

    def _epoch(self, batches, bar, board: TensorBoardWriter | None) -> None:
        state, epoch = self._state, self._state.epochs_done + 1
        every_steps = self._config.checkpoint.every_steps
        bar.set_description(f"epoch {epoch}/{self._config.epochs}")
        begin, tasks_before = time.monotonic(), int(self._step.tasks)
        position = int(self._step.step) % self._steps_per_epoch
        for at in range(position + 1, self._steps_per_epoch + 1):
            self._step(next(batches))
            bar.update(1)
            save = every_steps and at % every_steps == 0 and at < self._steps_per_epoch
            if save or at % _LOOK_EVERY == 0 or at == self._steps_per_epoch:
                self._look(bar, begin=begin, tasks_before=tasks_before)
            if save:
                self._save()
        speed = (int(self._step.tasks) - tasks_before) / max(time.monotonic() - begin, 1e-9)
        record = {"epoch": epoch, "step": int(self._step.step), "train_loss": self._mean_loss(),
                  "learning_rate": self._learning_rate(self._step.step - 1), "tasks_per_s": round(speed, 1)}
        last = epoch == self._config.epochs
        if self._validation and (last or epoch % self._config.validation.every == 0):
            record |= self._distribution.from_chief(self._validation)
            if state.early_stopping:
                if state.early_stopping.update(record, epoch=epoch) and self._chief:
                    filesystem.makedirs(self._directory.file("best"))
                    save_weights(self._recommender, self._directory.file("best", "weights.npz"))
                state.stopped = state.early_stopping.should_stop
        record["seconds"] = round(time.monotonic() - self._began, 3)
        state.history.append(record)
        state.epochs_done = epoch
        self._step.start_epoch()
        if board is not None:
            write_history(self._directory.file("history.jsonl"), state.history)
            board.epoch(record, rates=self._recommender.learner.inner_learning_rates())
        self._show(bar, record)
        if last or state.stopped or epoch % self._config.checkpoint.every_epochs == 0:
            self._save()
        if self._on_epoch is not None and self._chief:
            self._on_epoch(dict(record))

    def _look(self, bar, *, begin: float, tasks_before: int) -> None:
        """Reads the running loss, which waits for the device, and stops where a step failed."""
        failed = int(self._step.failed_step)
        check_finite(self._step, sampler=self._sampler, learning_rate=self._learning_rate(failed),
                     folder=self._directory.file("nan"), write=self._chief)
        speed = (int(self._step.tasks) - tasks_before) / max(time.monotonic() - begin, 1e-9)
        shown = {"loss": f"{self._mean_loss():.4f}", "tasks/s": f"{speed:.0f}"}
        bar.set_postfix({**shown, **self._last_validation()}, refresh=False)

    def _show(self, bar, record: dict) -> None:
        bar.set_postfix({"loss": f"{record['train_loss']:.4f}", "tasks/s": f"{record['tasks_per_s']:.0f}",
                         **self._last_validation()})

    def _last_validation(self) -> dict[str, str]:
        stopping = self._state.early_stopping
        for record in reversed(self._state.history):
            if stopping and stopping.metric in record:
                return {stopping.metric: f"{record[stopping.metric]:.4f}"}
        return {}

    def _mean_loss(self) -> float:
        return float(self._step.loss_sum) / max(1, int(self._step.tasks))

    def _learning_rate(self, step) -> float:
        return float(self._schedule(max(0, int(step))))

    def _save(self) -> None:
        if not self._chief:
            return
        self._state.seconds = time.monotonic() - self._began
        self._checkpoints.save()

    def _finish(self) -> None:
        """Chooses and writes the final weights."""
        state, directory = self._state, self._directory
        stopping = state.early_stopping
        chosen = stopping is not None and stopping.best_epoch is not None
        if chosen:
            load_weights(self._recommender, directory.file("best", "weights.npz"))
        write_history(directory.file("history.jsonl"), state.history)
        save_weights(self._recommender, directory.file("weights.npz"))
        digest = hash_run(self._recommender, documents=_documents(directory, self._start))
        filesystem.write_text(directory.file("run.json"), json.dumps({
            "hash": digest, "epochs": state.epochs_done, "steps": int(self._step.step),
            "best_epoch": stopping.best_epoch if chosen else state.epochs_done,
            "metric": stopping.metric if chosen else None, "best": stopping.best if chosen else None,
            "seconds": round(time.monotonic() - self._began, 3), "stopped_early": state.stopped,
            "tasks_per_epoch": self._sampler.num_tasks,
            "parameters": sum(v.value.shape.num_elements() for v in self._recommender.trainable_variables),
            "versions": {"tfmeta": __version__, "tensorflow": tf.__version__},
            **({} if self._start is None else {"start": self._start.describe()})}, indent=2))


def _result(directory: RunDirectory) -> TrainResult:
    names = {f.name for f in dataclasses.fields(TrainResult)}
    summary = {k: v for k, v in directory.summary.items() if k in names}
    return TrainResult(run=directory.path, history=tuple(directory.history()), **summary)


def _documents(directory: RunDirectory, start: Start | None) -> list[str]:
    """What belongs to a run beside its weights, in canonical form."""
    given = [] if start is None else [json.dumps(start.describe(), sort_keys=True)]
    return [json.dumps(outcome_settings(directory.config), sort_keys=True), directory.feature_spec.to_json(), *given]


def _identity(directory: RunDirectory, start: Start | None) -> str:
    text = "\n".join([*_documents(directory, start), directory.training_fingerprint])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
