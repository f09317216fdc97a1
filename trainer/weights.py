"""Weights of a recommender as one file, and their hash."""

import hashlib
import io

import numpy as np

from tfmeta.errors import RunError
from tfmeta.io import filesystem


def weights_of(recommender) -> dict[str, np.ndarray]:
    """Returns every variable by its path, paths sorted."""
    variables = sorted(recommender.variables, key=lambda v: v.path)
    weights = {v.path: np.asarray(v.value) for v in variables}
    if len(weights) != len(variables):
        raise RunError("Variables require different paths; received "
                       f"{sorted(v.path for v in variables)}. Name the layers of the model.")
    return weights


def save_weights(recommender, path: str) -> None:
    """Writes all variables to an npz file (array name = variable path); whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **weights_of(recommender))
    filesystem.write_bytes(path, buffer.getvalue())


def load_weights(recommender, path: str) -> None:
    """Assigns all variables from what `save_weights` wrote.

    Raises:
      RunError: if names or shapes differ from the recommender's.
    """
    if not filesystem.exists(path):
        raise RunError(f"Weights file '{path}' does not exist.")
    with np.load(io.BytesIO(filesystem.read_bytes(path)), allow_pickle=False) as stored:
        known = {v.path: v for v in recommender.variables}
        if set(known) != set(stored.files):
            raise RunError(f"Weights '{path}' belong to another model; they differ in "
                           f"{sorted(set(known) ^ set(stored.files))}.")
        for name, variable in known.items():
            value = stored[name]
            if value.shape != tuple(variable.shape):
                raise RunError(f"Weight '{name}' in '{path}' requires shape {tuple(variable.shape)}, received "
                               f"{value.shape}.")
            variable.assign(value)


def hash_run(recommender, *, documents: list[str]) -> str:
    """Returns the SHA-256 over the weights (names sorted, with dtype, shape and bytes) and some texts."""
    digest = hashlib.sha256()
    for name, value in weights_of(recommender).items():
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    for document in documents:
        digest.update(b"\n" + document.encode("utf-8"))
    return digest.hexdigest()
