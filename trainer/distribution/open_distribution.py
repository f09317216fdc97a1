"""Chooses and starts the strategy of a training."""

import functools
import sys

import tensorflow as tf

from tfmeta.errors import ConfigError, RunError
from trainer.distribution.cluster import Cluster
from trainer.distribution.distribution import Distribution


def open_distribution(name: str, *, cluster: Cluster | None = None) -> Distribution:
    """Starts a strategy; to be called before anything else of TensorFlow is used.

    - `none`: one device.
    - `mirrored`: all GPUs of this machine, or its logical CPU devices where it has none.
    - `multi_worker`: all workers of the cluster, with all GPUs of each or one processor; waits for all to come.
    - `auto`: `multi_worker` where the cluster has several workers, else `mirrored` where there are several GPUs,
      else `none`.

    Args:
      name: one of these.
      cluster: default a single process.

    Raises:
      ConfigError: if the name and the cluster do not fit.
      RunError: if the cluster does not come up.
    """
    cluster = cluster or Cluster()
    if name == "multi_worker" and cluster.num_workers == 1:
        raise ConfigError("'distribution: multi_worker' requires TF_CONFIG to name several workers, received "
                          f"{'one' if cluster.jobs() else 'none'}. Set TF_CONFIG for each process, or use "
                          "'distribution: auto'.")
    if name in ("none", "mirrored") and cluster.num_workers > 1:
        raise ConfigError(f"'distribution: {name}' requires a single process, but TF_CONFIG names "
                          f"{cluster.num_workers} workers, which would all write the same run. Use "
                          "'distribution: auto', or unset TF_CONFIG.")
    if name == "auto":
        name = "multi_worker" if cluster.num_workers > 1 else (
            "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "none")
    if name == "none":
        return Distribution(cluster=cluster)
    if name == "multi_worker":
        return _multi_worker(cluster)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return Distribution(strategy=tf.distribute.MirroredStrategy([d.name for d in devices]), cluster=cluster)


@functools.lru_cache(maxsize=1)
def _multi_worker(cluster: Cluster) -> Distribution:
    """A process joins a cluster once."""
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster.jobs()), task_type=cluster.job, task_id=cluster.index, rpc_layer="grpc")
    print(f"Worker {cluster.number} of {cluster.num_workers} waits for the others.", file=sys.stderr)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise RunError("Training on several workers requires a process that has not used TensorFlow before: "
                       f"{error}") from error
    except tf.errors.OpError as error:
        raise RunError(f"Training requires all {cluster.num_workers} workers of TF_CONFIG: "
                       f"{cluster.name(cluster.number)} could not join the others. TensorFlow's reason: "
                       f"{' '.join((error.message or '').split())[:300]}") from error
    return Distribution(strategy=strategy, cluster=cluster)
