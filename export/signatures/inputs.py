"""Names, shapes and dtypes of signature inputs."""

import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.serving.input_names import input_names


def user_specs(features: tuple[Feature, ...]) -> dict[str, tf.TensorSpec]:
    """`user_<feature>`: `[B, ...]` raw."""
    names = input_names("user", features)
    return {names[f.name]: _spec(names[f.name], [None, *f.raw_shape], f.dtype) for f in features}


def item_specs(prefix: str, features: tuple[Feature, ...]) -> dict[str, tf.TensorSpec]:
    """`<prefix>_<feature>`: `[B, N, ...]` raw, prefix `support` or `query`."""
    names = input_names(prefix, features)
    return {names[f.name]: _spec(names[f.name], [None, None, *f.raw_shape], f.dtype) for f in features}


def support_specs(features: tuple[Feature, ...]) -> dict[str, tf.TensorSpec]:
    """`support_<feature>` `[B, S, ...]`, `support_label` `[B, S]` float32 and `support_length` `[B]` int32."""
    return {**item_specs("support", features),
            "support_label": _spec("support_label", [None, None], "float32"),
            "support_length": _spec("support_length", [None], "int32")}


def take(inputs: dict[str, tf.Tensor], prefix: str, features: tuple[Feature, ...]) -> dict[str, tf.Tensor]:
    """Returns feature name -> tensor of the inputs with a prefix."""
    return {feature: inputs[name] for feature, name in input_names(prefix, features).items()}


def _spec(name: str, shape: list[int | None], dtype: str) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.dtypes.as_dtype(dtype), name=name)
