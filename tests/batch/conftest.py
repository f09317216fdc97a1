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


@pytest.fixture(scope="session")
def loaded():
    """Servables by path."""
    made = {}
    yield made
    for one in made.values():
        one.close()


# No longer than a module: servers of other tests, which close what they load, must not get a shared one.
@pytest.fixture(scope="module", autouse=True)
def loaded_once(loaded):
    """Jobs of one session share a loaded model, which otherwise takes most of their time."""
    from tfmeta.serving import servable

    real = servable.Servable

    def load(name, version, path):
        if path not in loaded:
            loaded[path] = real(name, version, path)
        return loaded[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servable, "Servable", load)
        yield
