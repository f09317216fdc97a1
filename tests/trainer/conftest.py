"""A small prepared directory and one run on it, made once."""

import pytest
from tiny_prepared import SMALL, write_tiny


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> str:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "prepared")


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_data):
    """(TrainResult, its directory) of a complete small run."""
    from trainer.config import load_config
    from trainer.loop import train

    path = tmp_path_factory.mktemp("runs") / "run"
    return train(config=load_config(SMALL), data=tiny_data, run=str(path), progress=False), path
