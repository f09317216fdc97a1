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


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in SERIAL:
            item.add_marker("serial")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    # A scheduler of our own: marks of groups have no effect with every pytest, without a word.
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return ByFile(config, log)


def group_of(nodeid: str) -> str:
    """Returns what one worker runs whole: a folder of `TOGETHER`, else a file."""
    file = nodeid.partition("::")[0]
    return next((name for name in TOGETHER if name in pathlib.PurePosixPath(file).parts), file)


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
