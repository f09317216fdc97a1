"""Breaking changes between exports, read from saved_model.pb and export.json alone."""

import json

import pytest
from export_cases import COMBINATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from export.compatibility import breaking_changes, require_compatible
from export.interface import Interface, Signature, Tensor
from tfmeta.errors import ExportError

FREE = Tensor("float32", (None, None))
SCORE = Signature({"query_id": Tensor("string", (None, None)), "user_age": Tensor("float32", (None,))},
                  {"scores": FREE, "status": Tensor("int32", (None,))}, "tensorflow/serving/predict")
ADAPT = Signature({**SCORE.inputs, "support_label": FREE, "support_length": Tensor("int32", (None,))},
                  {**SCORE.outputs, "base_scores": FREE}, "tensorflow/serving/predict")
EXPORT = {"item_features": "catalogue", "task_side": "user", "default_signature": "score",
          "label": {"unit": "rating", "minimum": 1.0, "maximum": 5.0}}


def model(described=EXPORT, **signatures):
    return Interface("models/m/1", {"score": SCORE, "serving_default": SCORE, "adapt_and_score": ADAPT, **signatures},
                     dict(described))


def changed(signature, *, part="inputs", drop=(), **tensors):
    values = {k: v for k, v in getattr(signature, part).items() if k not in drop}
    sides = {"inputs": signature.inputs, "outputs": signature.outputs, part: {**values, **tensors}}
    return Signature(method=signature.method, **sides)


def test_the_same_model_is_compatible():
    assert breaking_changes(model(), model()) == []
    require_compatible(model(), model())


@pytest.mark.parametrize("new", [
    model(recommend=ADAPT),
    model(score=changed(SCORE, part="outputs", ranks=FREE)),
    model(score=changed(SCORE, user_age=Tensor("float32", None))),
    model(score=changed(SCORE, part="outputs", scores=Tensor("float32", (None, 100)))),
    model(score=changed(SCORE, extra=Tensor("float32", (None,), optional=True))),
    model(score=changed(SCORE, user_age=Tensor("float32", (None,), optional=True)))],
    ids=["signature", "output", "wider input", "narrower output", "optional input", "input with a default"])
def test_additions_and_wider_inputs_break_nothing(new):
    assert breaking_changes(model(), new) == []


@pytest.mark.parametrize(("new", "line"), [
    ({"score": changed(SCORE, drop=["user_age"])}, "input 'user_age' of 'score' is gone"),
    ({"score": changed(SCORE, drop=["user_age"], user_years=Tensor("float32", (None,)))},
     "input 'user_age' of 'score' is now called 'user_years'"),
    ({"score": changed(SCORE, user_zip=Tensor("string", (None,)))},
     "input 'user_zip' of 'score' is new and mandatory (string [any])"),
    ({"score": changed(SCORE, user_age=Tensor("int64", (None,)))},
     "input 'user_age' of 'score' was float32 [any] and is int64 [any]"),
    ({"score": changed(SCORE, user_age=Tensor("float32", (None, 1)))},
     "input 'user_age' of 'score' was float32 [any] and is float32 [any, 1]"),
    ({"score": changed(SCORE, user_age=Tensor("float32", (1,)))},
     "input 'user_age' of 'score' was float32 [any] and is float32 [1]"),
    ({"score": changed(SCORE, part="outputs", drop=["status"])}, "output 'status' of 'score' is gone"),
    ({"score": changed(SCORE, part="outputs", drop=["scores"], score=FREE)},
     "output 'scores' of 'score' is now called 'score'"),
    ({"score": changed(SCORE, part="outputs", scores=Tensor("float64", (None, None)))},
     "output 'scores' of 'score' was float32 [any, any] and is float64 [any, any]"),
    ({"score": changed(SCORE, part="outputs", scores=Tensor("float32", (None,)))},
     "output 'scores' of 'score' was float32 [any, any] and is float32 [any]"),
    ({"score": changed(SCORE, part="outputs", scores=Tensor("float32", None))},
     "output 'scores' of 'score' was float32 [any, any] and is float32 [any rank]"),
    ({"score": Signature(SCORE.inputs, SCORE.outputs, "tensorflow/serving/classify")},
     "signature 'score' has the method 'tensorflow/serving/classify' instead of 'tensorflow/serving/predict'")])
def test_each_breaking_change_has_its_line(new, line):
    assert breaking_changes(model(), model(**new)) == [line]
    with pytest.raises(ExportError, match="--allow-breaking") as caught:
        require_compatible(model(), model(**new))
    assert line in str(caught.value) and "models/m/1" in str(caught.value)


def test_a_signature_that_is_gone():
    new = model()
    del new.signatures["adapt_and_score"]
    assert breaking_changes(model(), new) == ["signature 'adapt_and_score' is gone"]
    assert breaking_changes(new, model()) == []


def test_a_fixed_width_may_not_change():
    wide, narrow = (model(adapt=changed(SCORE, part="outputs", user_state=Tensor("float32", (None, n))))
                    for n in (16, 8))
    assert breaking_changes(wide, narrow) == [
        "output 'user_state' of 'adapt' was float32 [any, 16] and is float32 [any, 8]"]


def test_scores_that_become_something_else():
    clicks = {**EXPORT, "label": {"unit": "click", "minimum": 0, "maximum": 1}}
    ranked = {**clicks, "score_unit": "preference"}
    # The first export is from before the field.
    assert breaking_changes(model(clicks), model(ranked)) == ["a score was a probability and is a preference"]
    assert breaking_changes(model(clicks), model({**clicks, "score_unit": "probability"})) == []
    assert breaking_changes(model(ranked), model(ranked)) == []
    # Of one that is measured otherwise too, both are said.
    assert len(breaking_changes(model(clicks), model({**ranked, "label": {**ranked["label"], "maximum": 2}}))) == 2


def test_an_input_that_loses_its_default():
    old = model(score=changed(SCORE, user_age=Tensor("float32", (None,), optional=True)))
    assert breaking_changes(old, model()) == ["input 'user_age' of 'score' has lost its default value"]


@pytest.mark.parametrize(("change", "line"), [
    ({"item_features": "request"}, "the item mode was 'catalogue' and is 'request'"),
    ({"task_side": "item"}, "the side of the tasks was 'user' and is 'item'"),
    ({"label": {"unit": "click", "minimum": 0, "maximum": 1}}, "the label's unit was 'rating' and is 'click'"),
    ({"label": {"unit": "rating", "minimum": 0.0, "maximum": 10.0}}, "the label's range was 1.0 to 5.0 and is 0.0 to")])
def test_what_signatures_cannot_say(change, line):
    lines = breaking_changes(model(), model({**EXPORT, **change}))
    assert len(lines) == 1 and lines[0].startswith(line)
    # Other people's SavedModels do not say it.
    assert breaking_changes(model({}), model({**EXPORT, **change})) == []


def test_another_default_signature_is_said_once():
    new = model({**EXPORT, "default_signature": "adapt_and_score"}, serving_default=ADAPT)
    assert breaking_changes(model(), new) == ["'serving_default' was 'score' and is 'adapt_and_score'"]
    unknown = model({}, serving_default=ADAPT)
    assert breaking_changes(model({}), unknown) == [
        "input 'support_label' of 'serving_default' is new and mandatory (float32 [any, any])",
        "input 'support_length' of 'serving_default' is new and mandatory (int32 [any])"]


def test_the_same_change_of_several_signatures_is_one_line():
    zipped = {key: changed(s, user_zip=Tensor("string", (None,))) for key, s in model().signatures.items()}
    assert breaking_changes(model(), model(**zipped)) == [
        "input 'user_zip' of 'score', 'serving_default', 'adapt_and_score' is new and mandatory (string [any])"]


def test_a_rename_is_only_guessed_where_it_is_the_only_one():
    old = model(score=changed(SCORE, a=FREE, b=FREE))
    new = model(score=changed(SCORE, c=FREE, d=FREE))
    assert breaking_changes(old, new) == [
        "input 'a' of 'score' is gone", "input 'b' of 'score' is gone",
        "input 'c' of 'score' is new and mandatory (float32 [any, any])",
        "input 'd' of 'score' is new and mandatory (float32 [any, any])"]


TENSORS = st.builds(Tensor, st.sampled_from(["float32", "int32"]),
                    st.none() | st.lists(st.none() | st.integers(1, 2), max_size=2).map(tuple), st.booleans())
SIDES = st.dictionaries(st.sampled_from("abc"), TENSORS, max_size=3)
SIGNATURES = st.dictionaries(st.sampled_from(["s", "t"]), st.builds(Signature, SIDES, SIDES), max_size=2)


def accepts(new, old):
    """Whether a client made for `old` can use `new`, said the other way round: by trying every tensor it may send."""
    def shapes(tensor):
        import itertools

        options = [()] if tensor.shape == () else None
        if tensor.shape is None:
            return [s for n in range(4) for s in itertools.product((1, 2, 3), repeat=n)]
        return options or list(itertools.product(*[(1, 2, 3) if d is None else (d,) for d in tensor.shape]))

    def fits(tensor, shape):
        return tensor.shape is None or (len(shape) == len(tensor.shape) and all(
            d is None or d == s for d, s in zip(tensor.shape, shape, strict=True)))

    for key, before in old.items():
        if key not in new:
            return False
        after = new[key]
        for name, tensor in before.inputs.items():
            if name not in after.inputs or after.inputs[name].dtype != tensor.dtype or not all(
                    fits(after.inputs[name], s) for s in shapes(tensor)):
                return False
        for omit_optional in (False, True):
            sent = [n for n, t in before.inputs.items() if not (omit_optional and t.optional)]
            if any(not t.optional and n not in sent for n, t in after.inputs.items()):
                return False
        for name, tensor in before.outputs.items():
            if name not in after.outputs or after.outputs[name].dtype != tensor.dtype or not all(
                    fits(tensor, s) for s in shapes(after.outputs[name])):
                return False
    return True


@given(old=SIGNATURES, new=SIGNATURES)
@settings(max_examples=300, deadline=None)
def test_lines_exactly_where_a_client_breaks(old, new):
    assert (breaking_changes(Interface("a", old), Interface("b", new)) == []) == accepts(new, old)


def write_saved_model(path, *, default=None, tags=("serve",)):
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel()
    graph = proto.meta_graphs.add()
    graph.meta_info_def.tags.extend(tags)
    signature = graph.signature_def["score"]
    signature.method_name = "tensorflow/serving/predict"
    for infos, name, number, sizes in ((signature.inputs, "ids", 7, (-1, -1)), (signature.inputs, "k", 3, (-1,)),
                                       (signature.outputs, "scores", 1, (-1, 4))):
        infos[name].name, infos[name].dtype = f"{name}:0", number
        infos[name].tensor_shape.SetInParent()
        for size in sizes:
            infos[name].tensor_shape.dim.add(size=size)
    signature.outputs["any"].dtype = 1
    signature.outputs["any"].tensor_shape.unknown_rank = True
    if default:
        signature.defaults[default].CopyFrom(tensor_pb2.TensorProto(dtype=3, int_val=[1]))
    graph.signature_def["__saved_model_init_op"].outputs["op"].name = "NoOp"
    path.mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(proto.SerializeToString())
    return str(path)


def test_reads_any_saved_model(tmp_path):
    read = Interface.read(write_saved_model(tmp_path / "1", default="k"))
    assert read.described == {}
    assert read.signatures == {"score": Signature(
        {"ids": Tensor("string", (None, None)), "k": Tensor("int32", (None,), optional=True)},
        {"scores": Tensor("float32", (None, 4)), "any": Tensor("float32", None)}, "tensorflow/serving/predict")}


def test_reads_what_was_exported(exports):
    """The file says what export.json says; requests that carry features are not those that carry ids."""
    both = [Interface.read(exports[key].path) for key in COMBINATIONS[:2]]
    assert "the item mode was 'catalogue' and is 'request'" in breaking_changes(*both)
    for read in both:
        assert breaking_changes(read, read) == []
        assert set(read.signatures) == set(read.described["signatures"])
        for key, signature in read.described["signatures"].items():
            assert set(read.signatures[key].inputs) == set(signature["inputs"])
            assert set(read.signatures[key].outputs) == set(signature["outputs"])
            for part in ("inputs", "outputs"):
                for name, info in signature[part].items():
                    assert getattr(read.signatures[key], part)[name].dtype == info["dtype"]


@pytest.mark.parametrize(("make", "message"), [
    (lambda p: p.mkdir(), "requires saved_model.pb, .* has none"),
    (lambda p: (p / "3").mkdir(parents=True), r"It holds versions: name one, such as '.*3'"),
    (lambda p: (p.mkdir(), (p / "saved_model.pb").write_bytes(b"\xff\xff no model")), "cannot be parsed"),
    (lambda p: write_saved_model(p, tags=("train",)), "requires a graph with the tag 'serve'")])
def test_what_is_no_model_is_named(tmp_path, make, message):
    make(tmp_path / "m")
    with pytest.raises(ExportError, match=message):
        Interface.read(str(tmp_path / "m"))


def test_damaged_export_json(tmp_path):
    path = write_saved_model(tmp_path / "m")
    (tmp_path / "m" / "assets.extra").mkdir()
    file = tmp_path / "m" / "assets.extra" / "export.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ExportError, match="requires JSON"):
        Interface.read(path)
    file.write_text(json.dumps([1]), encoding="utf-8")
    assert Interface.read(path).described == {}
