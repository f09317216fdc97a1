"""Names of signature inputs."""

import re
from collections.abc import Iterable

from tfmeta.data.feature import Feature
from tfmeta.errors import ConfigError

PREFIXES = ("user", "support", "query")


def input_name(prefix: str, feature: str) -> str:
    """Returns the input that carries a feature: `<prefix>_<feature>`.

    TensorFlow allows letters, digits and underscores in the names of signature inputs; every other character of a
    feature's name becomes an underscore.

    Args:
      prefix: `user`, `support` or `query`.
      feature: name of the feature.
    """
    return re.sub(r"[^A-Za-z0-9_]", "_", f"{prefix}_{feature}")


def input_names(prefix: str, features: Iterable[Feature]) -> dict[str, str]:
    """Returns feature name -> input name.

    Raises:
      ConfigError: if two inputs would have one name, the support's `label` and `length` included.
    """
    names: dict[str, str] = {}
    taken = {"support_label": "the support's labels", "support_length": "the support's length"}
    for feature in features:
        # Item features carry the name in both roles, so what is reserved for one is for the other.
        for role in ("support", "query") if prefix != "user" else ("user",):
            name = input_name(role, feature.name)
            if name in taken:
                raise ConfigError(f"Feature '{feature.name}' requires a signature input of its own, but '{name}' is "
                                  f"that of {taken[name]}. Rename the feature.")
            taken[name] = f"feature '{feature.name}'"
        names[feature.name] = input_name(prefix, feature.name)
    return names
