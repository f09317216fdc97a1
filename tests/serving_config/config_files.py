"""What the tests of serving_config/ share."""

import pathlib
import re

import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "serving_config"
IMAGE = "tensorflow/serving:2.21.0"
# Of tensorflow_model_server, from its main.cc; those that this project has a use for or could have.
FLAGS = frozenset([
    "port", "grpc_socket_path", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms",
    "rest_api_enable_cors_support", "enable_batching", "allow_version_labels_for_unavailable_models",
    "batching_parameters_file", "enable_per_model_batching_parameters", "model_config_file",
    "model_config_file_poll_wait_seconds", "model_name", "model_base_path", "num_load_threads", "num_unload_threads",
    "max_num_load_retries", "load_retry_interval_micros", "file_system_poll_wait_seconds", "flush_filesystem_caches",
    "tensorflow_session_parallelism", "tensorflow_session_config_file", "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism", "use_alts_credentials", "ssl_config_file", "platform_config_file",
    "per_process_gpu_memory_fraction", "saved_model_tags", "grpc_channel_arguments", "grpc_max_threads",
    "enable_model_warmup", "num_request_iterations_for_warmup", "version", "monitoring_config_file",
    "remove_unused_fields_from_bundle_metagraph"])
METRICS_PATH = "/monitoring/prometheus/metrics"


def documents(name: str) -> list[dict]:
    return [d for d in yaml.safe_load_all((FOLDER / name).read_text("utf-8")) if d is not None]


def document(name: str) -> dict:
    (found,) = documents(name)
    return found


def flags(arguments: list[str]) -> dict[str, str]:
    """`--name=value` arguments of a server by name."""
    matches = [re.fullmatch(r"--([a-z_]+)=(\S+)", a) for a in arguments]
    assert all(matches), arguments
    found = {m.group(1): m.group(2) for m in matches}
    assert len(found) == len(arguments) and set(found) <= FLAGS, set(found) - FLAGS
    return found
