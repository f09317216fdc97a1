"""Shared fixtures."""

import os
import pathlib

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# What XLA does to a graph is tested, not how LLVM then optimises it, which takes longer than all the rest.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Folders whose files share what is made once a session: one worker runs all of each. Elsewhere one runs a file.
TOGETHER = {"export"}
# Files that load, or measure, the whole machine: marked `serial`, as single tests are where they stand.
SERIAL = {"test_swap_under_load.py", "test_batching.py", "test_rest_transport.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    # A worker is told nothing of `--dist`, yet it is the workers whose groups count.
    parallel = hasattr(config, "workerinput")
    for item in items:
        place = item.path.relative_to(ROOT / "tests")
        if place.name in SERIAL:
            item.add_marker("serial")
        if parallel:
            item.add_marker(pytest.mark.xdist_group(place.parts[0] if place.parts[0] in TOGETHER else str(place)))


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The directory of research data (`data/`, `peers/`); the test is skipped where there is none."""
    path = pathlib.Path(os.environ.get("TFMETA_SHARED", ROOT.parent / "shared"))
    if not (path / "data").is_dir():
        pytest.skip(f"research data not found at {path}; set TFMETA_SHARED to the directory that holds data/")
    return path


@pytest.fixture
def float64():
    """Builds every layer of the test in float64."""
    import keras

    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(previous)
