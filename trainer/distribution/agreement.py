"""What all workers of a training have to agree on before it starts."""

import hashlib
import json

import keras
import tensorflow as tf

from tfmeta import __version__
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import RunError
from trainer.config import TrainConfig
from trainer.distribution.distribution import Distribution
from trainer.run_directory import RunDirectory, flatten, outcome_settings

_SHOWN = 5


def require_agreement(distribution: Distribution, *, config: TrainConfig, feature_spec: FeatureSpec,
                      training_fingerprint: str) -> None:
    """Compares the workers' configurations, data and versions.

    Raises:
      RunError: on every worker, if they differ; it names the first worker that differs from worker 0, and in what.
    """
    specification = hashlib.sha256(feature_spec.to_json().encode("utf-8")).hexdigest()
    mine = flatten({**outcome_settings(config), "feature specification": specification[:12],
                    "training data": training_fingerprint[:12], "tfmeta": __version__, "tensorflow": tf.__version__,
                    "keras": keras.__version__})
    first, *others = (json.loads(text) for text in distribution.gather_texts(json.dumps(mine)))
    for number, other in enumerate(others, start=1):
        differing = [f"{key}: {first.get(key, 'absent')} and {other.get(key, 'absent')}"
                     for key in sorted(set(first) | set(other)) if first.get(key) != other.get(key)]
        if differing:
            more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
            name = distribution.cluster.name
            raise RunError("Training on several workers requires the same configuration, data and versions on all of "
                           f"them; {name(0)} and {name(number)} differ in {'; '.join(differing[:_SHOWN])}{more}. "
                           "Start all workers with the same options and data.")


def require_divisible(distribution: Distribution, meta_batch_size: int) -> None:
    """Raises RunError unless every replica gets as many tasks of a meta-batch."""
    replicas = distribution.num_replicas
    if meta_batch_size % replicas:
        lower = meta_batch_size // replicas * replicas
        near = f"{lower} or {lower + replicas}" if lower else f"{replicas}"
        workers = distribution.num_workers
        where = f"on {workers} workers" if workers > 1 else "on this machine"
        instead = "" if workers > 1 else ", or use one device with 'distribution: none'"
        raise RunError(f"'sampler.meta_batch_size' requires a multiple of the number of replicas ({replicas} {where}), "
                       f"received {meta_batch_size}. It is the number of tasks on all of them together; take "
                       f"{near}{instead}.")


def create_run(distribution: Distribution, path: str, *, data_path: str, resume: bool, config: TrainConfig,
               feature_spec: FeatureSpec, training_fingerprint: str) -> RunDirectory:
    """Creates or opens the run directory: the chief as `RunDirectory.create`, the others once it is there.

    Raises:
      RunError: as `RunDirectory.create`, on every worker; or if a worker does not see the directory.
    """
    def create() -> RunDirectory:
        return RunDirectory.create(path, config=config, feature_spec=feature_spec, data_path=data_path,
                                   training_fingerprint=training_fingerprint, resume=resume)

    written = distribution.from_chief(lambda: create().text("config.yaml"))
    run = RunDirectory(path)
    sees = run.exists and run.text("config.yaml") == written
    blind = [n for n, answer in enumerate(distribution.gather_texts("yes" if sees else "no")) if answer != "yes"]
    if blind:
        names = ", ".join(distribution.cluster.name(n) for n in blind)
        raise RunError(f"Training on several workers requires a run directory that all of them see, received '{path}', "
                       f"where {names} does not find what the chief has written. Use a shared file system or a bucket.")
    return run
