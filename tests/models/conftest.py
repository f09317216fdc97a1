import keras
import pytest


@pytest.fixture
def float64():
    """Builds every layer of the test in float64."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(previous)
