"""Layouts, versions, what lies beside the graph, and exports that fail."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from export_cases import BOUND, FAST, make_items, make_recommender
from request_helpers import make_request, to_bytes

from tfmeta.errors import ConfigError, DataError, ExportError

CATALOGUE, REQUEST = FAST[0], FAST[1]


@pytest.fixture
def quick_write(monkeypatch):
    """Replaces the writing of the model by one small file: for everything around it."""
    from export import exporter

    def write(directory, *_, **__):
        with open(os.path.join(directory, "saved_model.pb"), "wb") as file:
            file.write(b"model")

    monkeypatch.setattr(exporter, "_write", write)
    return exporter.export_model


def test_versions_count_up(quick_write, tmp_path):
    base = str(tmp_path / "m")
    options = {"items": None, "model_base": base, "check": False}
    assert quick_write(None, **options) == os.path.join(base, "1")
    assert quick_write(None, **options) == os.path.join(base, "2")
    assert quick_write(None, version=9, **options) == os.path.join(base, "9")
    os.makedirs(os.path.join(base, "x7"))
    assert quick_write(None, **options) == os.path.join(base, "10")
    for version, message in ((9, "Version 9 exists already"), (0, "at least 1, received 0")):
        with pytest.raises(ExportError, match=message):
            quick_write(None, version=version, **options)
    assert sorted(os.listdir(base)) == ["1", "10", "2", "9", "x7"]


def test_flat_layout_refuses_versions_and_full_directories(quick_write, tmp_path):
    base = str(tmp_path / "model")
    os.makedirs(base)
    assert quick_write(None, items=None, model_base=base, layout="flat", check=False) == base
    with pytest.raises((ExportError, DataError), match="exists already"):
        quick_write(None, items=None, model_base=base, layout="flat", check=False)
    with pytest.raises(ExportError, match="has no versions"):
        quick_write(None, items=None, model_base=base, layout="flat", version=3, check=False)


@pytest.mark.parametrize("option", [{"item_features": "catalog"}, {"layout": "deep"}, {"support_bound": 0},
                                    {"default_signature": "adapt"}])
def test_unknown_options(tmp_path, option):
    from export.exporter import export_model

    with pytest.raises(ConfigError, match=next(iter(option))):
        export_model(None, items=None, model_base=str(tmp_path / "m"), **option)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: f.drop(columns="item_id"), "requires the column 'item_id'"),
    (lambda f: f.iloc[:0], "at least one item"),
    (lambda f: f.assign(item_id=["", *f["item_id"][1:]]), "row 0 has none"),
    (lambda f: f.assign(item_id=["m1", *f["item_id"][1:]]), "'m1' occurs more than once"),
    (lambda f: f.drop(columns="genres"), "column 'genres'")])
def test_catalogue_errors_leave_nothing_behind(tmp_path, change, message):
    from export.exporter import export_model

    with pytest.raises((ExportError, DataError), match=message):
        export_model(make_recommender(), items=change(make_items()), model_base=str(tmp_path / "m"))
    assert not (tmp_path / "m").exists() or not os.listdir(tmp_path / "m")


def test_failure_half_way_leaves_no_version(tmp_path, monkeypatch):
    from export import warmup
    from export.exporter import export_model

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(warmup, "write_warmup", fail)
    with pytest.raises(OSError, match="disk full"):
        export_model(make_recommender(), items=make_items(), model_base=str(tmp_path / "m"))
    assert os.listdir(tmp_path / "m") == []


def test_failed_verification_leaves_no_version(tmp_path, monkeypatch):
    """The answers on record differ from the graph's by a little more than is allowed."""
    from export import golden
    from export.exporter import export_model

    pack = golden.to_bytes

    def shifted(cases, **options):
        for case in cases:
            if case.signature == "score":
                case.outputs["scores"] = case.outputs["scores"] + np.float32(0.01)
        return pack(cases, **options)

    monkeypatch.setattr(golden, "to_bytes", shifted)
    with pytest.raises(ExportError, match=r"failed the check 'TensorFlow 2 loader: golden requests'.*differs by"):
        export_model(make_recommender(), items=make_items(), model_base=str(tmp_path / "m"))
    assert os.listdir(tmp_path / "m") == []


@pytest.mark.slow
def test_kill_half_way_leaves_no_version(tmp_path):
    code = ("import os, signal, sys; sys.path[:0] = sys.argv[2:]; "
            "from export_cases import make_items, make_recommender; "
            "from export import exporter, warmup; "
            "warmup.write_warmup = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL); "
            "exporter.export_model(make_recommender(), items=make_items(), model_base=sys.argv[1])")
    base = tmp_path / "m"
    done = subprocess.run([sys.executable, "-c", code, str(base), os.path.dirname(__file__), os.getcwd()], check=False)
    assert done.returncode == -9
    from tfmeta.serving.model_versions import list_versions

    assert list_versions(str(base)) == {}


def test_remote_layout(tmp_path):
    """On file systems without a rename the files are copied, saved_model.pb last; the copy answers."""
    import tensorflow as tf

    from export.exporter import export_model
    from tfmeta.io import filesystem

    order = []
    original = filesystem.open_file

    def record(path, mode="rb"):
        if "w" in mode and str(path).startswith("ram://"):
            order.append(str(path).rsplit("/", 1)[-1])
        return original(path, mode)

    filesystem.open_file = record
    try:
        path = export_model(make_recommender(), items=make_items(), model_base="ram://models/m", check=False)
    finally:
        filesystem.open_file = original
    assert path == "ram://models/m/1"
    assert order[-1] == "saved_model.pb" and len(order) > 5
    loaded = tf.saved_model.load(path)
    inputs = {"user_zip_code": ["0"], "user_age": [31.0], "query_movie_id": [["m1", "m2"]]}
    assert loaded.signatures["score"](**{k: tf.constant(v) for k, v in inputs.items()})["scores"].shape == (1, 2)
    with pytest.raises(ExportError, match="exists already"):
        export_model(None, items=None, model_base="ram://models/m", version=1)


def test_remote_copy_that_fails_leaves_no_version(quick_write, monkeypatch):
    from tfmeta.io import filesystem

    def fail(source, target, *, last=()):
        filesystem.makedirs(target)
        filesystem.write_bytes(filesystem.join(target, "variables"), b"half")
        raise OSError("connection lost")

    monkeypatch.setattr(filesystem, "copy_tree", fail)
    with pytest.raises(OSError, match="connection lost"):
        quick_write(None, items=None, model_base="ram://failing/m", check=False)
    assert not filesystem.exists("ram://failing/m/1")


def test_extras(exports):
    exported = exports[CATALOGUE]
    extras = os.path.join(exported.path, "assets.extra")
    assert sorted(os.listdir(extras)) == ["MODEL_CARD.json", "MODEL_CARD.md", "export.json", "feature_spec.json",
                                          "golden.npz", "tf_serving_warmup_requests"]
    from tfmeta.data.feature_spec import FeatureSpec

    with open(os.path.join(extras, "feature_spec.json"), encoding="utf-8") as file:
        assert FeatureSpec.from_json(file.read()) == exported.recommender.feature_spec
    with open(os.path.join(extras, "export.json"), encoding="utf-8") as file:
        described = json.load(file)
    assert described["support_bound"] == BOUND
    assert described["item_features"] == "catalogue"
    assert described["catalogue"]["items"] == len(exported.items)
    assert described["label"]["unit"] == "rating"
    assert described["model"]["name"] == "two_tower" and described["learner"]["scope"] == "user_vector"
    assert described["signatures"]["score"]["inputs"]["query_movie_id"] == {"dtype": "string", "shape": [None, None]}
    assert described["signatures"]["adapt_and_score"]["outputs"]["status"] == {"dtype": "int32", "shape": [None]}
    with open(os.path.join(extras, "MODEL_CARD.md"), encoding="utf-8") as file:
        assert described["fingerprint"] in file.read()


def test_fingerprint_follows_the_weights():
    from export.metadata import fingerprint

    first, same, other = make_recommender(), make_recommender(), make_recommender(seed=1)
    assert fingerprint(first) == fingerprint(same) != fingerprint(other)


def test_catalogue_mode_holds_no_item_tower(exports):
    """Only what a signature reads is saved; the catalogue's table stands for the item side."""
    import tensorflow as tf

    names = [n for n, _ in tf.train.list_variables(os.path.join(exports[CATALOGUE].path, "variables", "variables"))]
    # user tower (2 layers), two user inputs less the numeric one, offset, 2 inner rates, the item table.
    variables = [n for n in names if n.endswith("VARIABLE_VALUE")]
    assert len(variables) == 4 + 1 + 1 + 2 + 1, names


def test_users_without_features_and_integer_ids(tmp_path):
    from export.exporter import export_model
    from tfmeta.serving.servable import Servable

    recommender, items = make_recommender(plain=True), make_items(plain=True)
    path = export_model(recommender, items=items, model_base=str(tmp_path / "m"), support_bound=BOUND)
    servable = Servable("m", 1, path)
    assert set(servable.signature_defs["score"].inputs) == {"query_movie_id"}
    ids = np.array([[0, 1, 11], [5, 99, -1]], np.int64)
    outputs = servable.run("score", {"query_movie_id": ids})
    assert outputs["scores"].shape == (2, 3)
    assert outputs["scores"][1, 1] == outputs["scores"][1, 2]
    adapted = servable.run("adapt_and_score", {
        "query_movie_id": ids, "support_movie_id": ids[:, :1], "support_label": np.ones((2, 1), np.float32),
        "support_length": np.array([1, 0], np.int32)})
    assert adapted["scores"][1].tobytes() == outputs["scores"][1].tobytes()
    assert (adapted["scores"][0] != outputs["scores"][0]).all()


def test_requests_of_the_helpers_fit(exports):
    """Guards the other tests: their requests are valid ones."""
    inputs = make_request(exports[REQUEST])
    assert inputs["query_plot"].dtype == object and isinstance(inputs["query_plot"].ravel()[0], bytes)
    assert to_bytes(inputs)["support_vector"].shape == (3, 6, 3)
