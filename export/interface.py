"""What clients of an exported model rely on, read from its files alone."""

import dataclasses
import json
from typing import Any

from tfmeta.errors import ExportError
from tfmeta.io import filesystem
from tfmeta.serving.model_versions import list_versions

# The signatures by which a SavedModel restores itself; no client calls them.
_INTERNAL = ("__saved_model_init_op", "__saved_model_train_op")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input or output of a signature.

    Attributes:
      dtype: TensorFlow's name of the type, such as `float32`.
      shape: sizes, None where free; None as a whole for an unknown rank.
      optional: an input that has a default value in the signature.
    """

    dtype: str
    shape: tuple[int | None, ...] | None
    optional: bool = False

    def __str__(self) -> str:
        shape = "any rank" if self.shape is None else ", ".join("any" if s is None else str(s) for s in self.shape)
        return f"{self.dtype} [{shape}]"


@dataclasses.dataclass(frozen=True)
class Signature:
    """Inputs and outputs by name, and the method (Predict, Classify, ...)."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    method: str = ""


@dataclasses.dataclass(frozen=True)
class Interface:
    """What clients of a model rely on.

    Attributes:
      path: where the model lies.
      signatures: by key.
      described: the content of export.json; empty for other SavedModels.
    """

    path: str
    signatures: dict[str, Signature]
    described: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, path: str) -> "Interface":
        """Reads a model directory (MODEL_BASE/N or a flat export), on any file system.

        Raises:
          ExportError: if there is no SavedModel with tag `serve`.
        """
        path = str(path).rstrip("/")
        described = filesystem.join(path, "assets.extra", "export.json")
        try:
            about = json.loads(filesystem.read_text(described)) if filesystem.exists(described) else {}
        except ValueError as error:
            raise ExportError(f"'{described}' requires JSON: {error}.") from None
        return cls(path, _signatures(path), about if isinstance(about, dict) else {})


def _signatures(path: str) -> dict[str, Signature]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = filesystem.join(path, "saved_model.pb")
    if not filesystem.exists(file):
        versions = list_versions(path)
        hint = (f" It holds versions: name one, such as '{filesystem.join(path, str(max(versions)))}'."
                if versions else "")
        raise ExportError(f"A model directory requires saved_model.pb, '{path}' has none.{hint}")
    try:
        model = saved_model_pb2.SavedModel.FromString(filesystem.read_bytes(file))
    except DecodeError:
        raise ExportError(f"'{file}' is not a SavedModel: it cannot be parsed.") from None
    served = [g for g in model.meta_graphs if "serve" in g.meta_info_def.tags]
    if not served:
        raise ExportError(f"'{file}' requires a graph with the tag 'serve', it has none.")
    return {key: Signature(inputs=_tensors(s.inputs, optional=set(s.defaults)), outputs=_tensors(s.outputs),
                           method=s.method_name)
            for key, s in sorted(served[0].signature_def.items()) if key not in _INTERNAL}


def _tensors(infos, *, optional: set[str] = frozenset()) -> dict[str, Tensor]:
    return {name: Tensor(_dtype(info.dtype), _shape(info), name in optional) for name, info in sorted(infos.items())}


def _dtype(number: int) -> str:
    from tensorflow.python.framework import dtypes

    try:
        return dtypes.as_dtype(number).name
    except TypeError:
        return f"dtype_{number}"


def _shape(info) -> tuple[int | None, ...] | None:
    # Composite tensors (sparse, ragged) have no shape of their own here.
    if info.WhichOneof("encoding") not in ("name", None) or info.tensor_shape.unknown_rank:
        return None
    return tuple(None if d.size < 0 else d.size for d in info.tensor_shape.dim)
