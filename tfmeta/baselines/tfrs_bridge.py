"""TensorFlow Recommenders beside Keras 3."""

import importlib
import importlib.util
import os
import sys
import types

from tfmeta.errors import ConfigError

_SWITCH = "TF_USE_LEGACY_KERAS"


def require_tfrs() -> None:
    """Raises ConfigError if a package is absent; imports nothing."""
    for name in ("tensorflow_recommenders", "tf_keras"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"Baseline 'two_tower_tfrs' requires the package {name.replace('_', '-')}, which is not "
                              "installed: pip install 'tfmeta[tfrs]'.")


def import_tfrs() -> types.ModuleType:
    """Returns `tensorflow_recommenders`, imported on the first call.

    It wants `tf.keras` to be Keras 2, which TensorFlow decides when `tf.keras` is first touched in a process. The
    environment variable that decides it is set for the import alone; afterwards `tf.keras` is Keras 2 in this
    process, while `import keras` is Keras 3 as before. Tasks and metrics work on tensors of either; layers and models
    of the package must not hold or be held by Keras 3 ones.

    Raises:
      ConfigError: if the packages are absent, or `tf.keras` was touched before and is Keras 3 here.
    """
    if "tensorflow_recommenders" in sys.modules:
        return sys.modules["tensorflow_recommenders"]
    require_tfrs()
    previous = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "1"
    try:
        return importlib.import_module("tensorflow_recommenders")
    except ImportError as error:
        raise ConfigError("Baseline 'two_tower_tfrs' requires tf.keras to be Keras 2, but something has used it as "
                          f"Keras 3 before in this process. Start the process with {_SWITCH}=1. ({error})") from error
    finally:
        if previous is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = previous
