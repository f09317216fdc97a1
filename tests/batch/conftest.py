"""A small model, exported once for all of these tests, and the log that batch jobs read."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "export"))


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    """MODEL_BASE of a two-tower model with all kinds of features and a catalogue in the graph."""
    from export_cases import BOUND, make_items, make_recommender

    from export.exporter import export_model

    base = tmp_path_factory.mktemp("batch") / "movies"
    export_model(make_recommender(), items=make_items(), model_base=str(base), support_bound=BOUND, check=False)
    return str(base)


@pytest.fixture(scope="session")
def servable(model):
    """The same model, called directly."""
    from tfmeta.serving.servable import Servable

    return Servable("m", 1, f"{model}/1")


@pytest.fixture(scope="session", autouse=True)
def loaded_once():
    """Jobs of one session share a loaded model, which otherwise takes most of their time."""
    from tfmeta.serving import servable

    made, real = {}, servable.Servable

    def load(name, version, path):
        if path not in made:
            made[path] = real(name, version, path)
        return made[path]

    servable.Servable = load
    yield
    servable.Servable = real
    for one in made.values():
        one.close()
