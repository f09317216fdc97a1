import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tiny_prepared import SMALL, WARM_USERS, write_tiny

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.errors import ConfigError, RunError
from trainer.config import OptimizerConfig, load_config
from trainer.evaluation.recommender_scorer import RecommenderScorer
from trainer.loop import train
from trainer.op_determinism import op_determinism
from trainer.optimizer import LearningRate, build_optimizer
from trainer.outer_step import OuterStep
from trainer.run_directory import RunDirectory, build_from_config
from trainer.validation import Validation
from trainer.weights import load_weights, save_weights, weights_of


def run_small(data, path, *, on_epoch=None, **changes):
    return train(config=load_config(SMALL | changes), data=data, run=str(path), progress=False, on_epoch=on_epoch)


def make_step(data, *, clip_norm=None, dropout=0.0, name="sgd", learning_rate=0.1):
    config = load_config(SMALL)
    prepared = PreparedData(data)
    recommender = build_from_config(config, prepared.feature_spec)
    tables = FeatureTables.from_prepared(prepared)
    settings = OptimizerConfig(name=name, learning_rate=learning_rate)
    optimizer = build_optimizer(settings, schedule=LearningRate(settings, total_steps=10),
                                variables=recommender.trainable_variables, exempt=[])
    sampler = TaskSampler(prepared.train, config=config.sampler, label=prepared.feature_spec.label, seed=3)
    step = OuterStep(recommender, optimizer=optimizer, tables=tables, clip_norm=clip_norm, dropout=dropout, seed=3)
    return step, recommender, tables, sampler


@pytest.mark.parametrize(("unit", "shift", "learner"), [
    ("rating", 0.0, {"name": "ordinal_ridge"}), ("rating", 0.5, {"name": "ordinal_ridge", "step": 0.5}),
    ("rating", 1 / 3, {"name": "ridge"}), ("click", 0.0, {"name": "ridge"})])
def test_a_learner_without_a_name_is_chosen_once_by_the_training_labels(tmp_path, unit, shift, learner):
    data = write_tiny(tmp_path / "data", unit=unit, label_shift=shift)
    run_small(data, tmp_path / "run", learner={}, epochs=1)
    run = RunDirectory.open(str(tmp_path / "run"))
    assert run.config.learner == learner
    assert run.recommender().get_config()["learner"].items() >= learner.items()
    # The same configuration, still without a name, is that run's own.
    config = load_config(SMALL | {"learner": {}, "epochs": 1})
    assert train(config=config, data=data, run=run.path, resume=True, progress=False).hash == run.summary["hash"]


def test_the_run_directory_holds_what_was_trained(tiny_run, tiny_data):
    result, path = tiny_run
    run = RunDirectory.open(str(path))
    assert (result.epochs, result.steps, result.metric) == (2, 10, "val_mae")
    assert run.config == load_config(SMALL) and run.data_path == tiny_data
    assert run.feature_spec == PreparedData(tiny_data).feature_spec
    assert run.training_fingerprint == PreparedData(tiny_data).training_fingerprint()
    history = run.history()
    assert [r["epoch"] for r in history] == [1, 2] and tuple(history) == result.history
    assert min(r["val_mae"] for r in history) == result.best == history[result.best_epoch - 1]["val_mae"]
    # The stored weights are those that gave the best value.
    prepared = PreparedData(tiny_data)
    recommender = run.recommender()
    again = Validation(prepared.tasks("validation"), recommender=recommender, seed=run.config.seed,
                       tables=FeatureTables.from_prepared(prepared), config=run.config.validation)()
    assert again["val_mae"] == result.best
    assert again["val_mae"] != again["val_base_mae"]
    assert run.summary["hash"] == result.hash


@pytest.mark.parametrize("before", [False, True])
def test_training_leaves_the_process_as_deterministic_as_it_was(before, tiny_data, tmp_path):
    from tensorflow.python.framework import config as framework

    seen = []
    with op_determinism(before):
        run_small(tiny_data, tmp_path / "run", epochs=1, learner={"name": "joint"},
                  on_epoch=lambda _: seen.append(framework.is_op_determinism_enabled()))
        assert framework.is_op_determinism_enabled() is before
    assert seen == [True] and not framework.is_op_determinism_enabled()


def test_learning_happens(tmp_path, tiny_data):
    config = load_config(SMALL | {"epochs": 12, "early_stopping": None,
                                  "learner": {"name": "maml", "inner_steps": 3}})
    seen = []
    result = train(config=config, data=tiny_data, run=str(tmp_path / "run"), progress=False, on_epoch=seen.append)
    assert tuple(seen) == result.history and result.steps == 12 * -(-WARM_USERS // 8)
    first, last = result.history[0], result.history[-1]
    assert last["train_loss"] < 0.85 * first["train_loss"]
    assert last["val_mae"] < last["val_base_mae"]  # adaptation pays on users never seen
    assert result.metric is None and result.best_epoch == 12


def test_a_taken_directory_is_refused_and_a_complete_run_is_returned(tiny_run, tiny_data):
    result, path = tiny_run
    config = load_config(SMALL)
    with pytest.raises(RunError, match="exists already"):
        train(config=config, data=tiny_data, run=str(path), progress=False)
    assert train(config=config, data=tiny_data, run=str(path), resume=True, progress=False) == result


def test_resuming_with_other_settings_or_data_names_what_differs(tiny_run, tmp_path):
    _, path = tiny_run
    config = load_config(SMALL | {"epochs": 9, "optimizer": {"learning_rate": 0.5}})
    other = write_tiny(tmp_path / "other", label_shift=0.5)
    same = write_tiny(tmp_path / "same")
    with pytest.raises(RunError, match=r"epochs: 2 -> 9; optimizer.learning_rate: 0.02 -> 0.5"):
        train(config=config, data=same, run=str(path), resume=True)
    with pytest.raises(RunError, match=r"requires (its own feature specification|the training data)"):
        train(config=load_config(SMALL), data=other, run=str(path), resume=True)


def test_foreign_checkpoints_are_refused(tiny_run, tiny_data, tmp_path):
    _, path = tiny_run
    with pytest.raises(RunError, match="belongs to a run with another configuration"):
        train(config=load_config(SMALL | {"seed": 4}), data=tiny_data, run=str(tmp_path / "run"), progress=False,
              checkpoint_dir=str(path / "checkpoints"))


def test_refit_without_validation_tasks_trains_all_epochs(tmp_path):
    data = write_tiny(tmp_path / "data", validation=False)
    result = run_small(data, tmp_path / "run", epochs=3, early_stopping={"patience": 1})
    assert (result.epochs, result.best_epoch, result.metric, result.stopped_early) == (3, 3, None, False)
    assert not any(k.startswith("val_") for k in result.history[-1])
    assert not (tmp_path / "run" / "best").exists()


def test_no_label_of_a_test_cell_reaches_the_run(tiny_run, tmp_path):
    """Permuting the labels of all test cells leaves the hash unchanged; where a leak is built in, it does not."""
    hashes = {}
    for leak, permute in ((False, True), (True, False), (True, True)):
        name = f"{leak}-{permute}"
        data = write_tiny(tmp_path / name / "data", permute_test_labels=permute, leak=leak)
        hashes[leak, permute] = run_small(data, tmp_path / name / "run").hash
    assert tiny_run[0].hash == hashes[False, True]
    assert hashes[True, False] != hashes[True, True]


def test_a_run_survives_the_move_of_its_data(tiny_run, tmp_path):
    result, path = tiny_run
    copy = tmp_path / "elsewhere"
    shutil.copytree(path, copy)
    data = json.loads((copy / "data.json").read_text())
    (copy / "data.json").write_text(json.dumps(data | {"path": str(tmp_path / "gone")}))
    recommender = RunDirectory.open(str(copy)).recommender()
    for name, value in weights_of(RunDirectory.open(str(path)).recommender()).items():
        np.testing.assert_array_equal(value, weights_of(recommender)[name])
    assert result.hash == RunDirectory.open(str(copy)).summary["hash"]


def test_incomplete_and_absent_runs_are_refused(tiny_run, tmp_path):
    _, path = tiny_run
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    (copy / "run.json").unlink()
    with pytest.raises(RunError, match="not complete"):
        RunDirectory.open(str(copy))
    assert RunDirectory.open(str(copy), allow_incomplete=True).history()
    with pytest.raises(RunError, match="not a run directory"):
        RunDirectory.open(str(tmp_path))


def test_weights_of_another_model_are_refused(tiny_run, tiny_data, tmp_path):
    _, path = tiny_run
    spec = PreparedData(tiny_data).feature_spec
    other = build_from_config(load_config(SMALL | {"model": {"name": "embedding"}}), spec)
    with pytest.raises(RunError, match="another model"):
        load_weights(other, str(path / "weights.npz"))
    wide = build_from_config(load_config(SMALL | {"model": SMALL["model"] | {"vector_dim": 5}}), spec)
    with pytest.raises(RunError, match="requires shape"):
        load_weights(wide, str(path / "weights.npz"))
    save_weights(wide, str(tmp_path / "w.npz"))
    for variable in wide.variables:
        variable.assign(variable.value + 1.0)
    changed = weights_of(wide)
    load_weights(wide, str(tmp_path / "w.npz"))
    assert all((changed[k] != v).all() for k, v in weights_of(wide).items())


def test_clicks_in_mixed_precision(tmp_path):
    data = write_tiny(tmp_path / "data", unit="click")
    result = run_small(data, tmp_path / "run", precision="mixed_bfloat16")
    assert result.metric == "val_auc" and 0 <= result.best <= 1
    assert {"val_logloss", "val_base_auc", "val_user_cold_auc"} <= set(result.history[0])
    run = RunDirectory.open(str(tmp_path / "run"))
    recommender = run.recommender()
    assert recommender.model.compute_dtype == "bfloat16"
    assert {str(v.dtype) for v in recommender.variables} == {"float32"}
    import keras

    assert keras.config.dtype_policy().name == "float32"  # the process keeps its own


def test_clicks_that_are_only_ordered(tmp_path):
    data = write_tiny(tmp_path / "data", unit="click")
    result = run_small(data, tmp_path / "run", learner={"name": "ridge", "outer_loss": "pairwise"}, epochs=3,
                       sampler={**SMALL["sampler"], "negatives": 4})
    # Such a loss makes no probabilities, so there is no log loss of them.
    assert "val_auc" in result.history[0] and "val_logloss" not in result.history[0]
    losses = [record["train_loss"] for record in result.history]
    assert losses[-1] < losses[0] < 1.05 * np.log(2)


def test_one_step_is_plain_gradient_descent_on_the_mean_task_loss(tiny_data):
    step, recommender, tables, sampler = make_step(tiny_data)
    batch = sampler.batch(epoch=0, batch=0)
    short = type(batch)(*(x[:3] for x in batch))  # a smaller last batch is averaged by its actual size
    with tf.GradientTape() as tape:
        task_loss = recommender.batch_loss(tables.gather(short))
        loss = tf.reduce_sum(task_loss) / 3.0
    gradients = tape.gradient(loss, [v.value for v in recommender.trainable_variables])
    expected = [v.numpy() - 0.1 * tf.convert_to_tensor(g).numpy()
                for v, g in zip(recommender.trainable_variables, gradients, strict=True)]
    assert float(step(short)) == pytest.approx(float(tf.reduce_sum(task_loss)), rel=1e-5)
    for variable, value in zip(recommender.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4, atol=1e-6, err_msg=variable.path)
    assert int(step.tasks) == 3 and int(step.step) == 1
    np.testing.assert_allclose(float(step.loss_sum), float(tf.reduce_sum(task_loss)), rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm(tiny_data):
    step, recommender, _, sampler = make_step(tiny_data, clip_norm=0.01)
    before = weights_of(recommender)
    step(sampler.batch(epoch=0, batch=0))
    moved = np.concatenate([(v - before[k]).ravel() for k, v in weights_of(recommender).items()])
    np.testing.assert_allclose(np.linalg.norm(moved), 0.1 * 0.01, rtol=1e-3)


def test_hidden_ids_change_the_loss_but_only_by_the_id(tiny_data):
    step, recommender, tables, sampler = make_step(tiny_data, dropout=0.5)
    batch = sampler.batch(epoch=0, batch=0)
    name = recommender.feature_spec.item_id.name
    hidden, plain = step.gather(batch, tf.constant(0, tf.int64)), tables.gather(batch)
    for side in ("support_item", "query_item"):
        a, b = getattr(hidden, side), getattr(plain, side)
        assert set(np.unique(a[name].numpy()[a[name].numpy() != b[name].numpy()])) == {0}
        np.testing.assert_array_equal(a["genre"], b["genre"])
    again = step.gather(batch, tf.constant(0, tf.int64))
    later = step.gather(batch, tf.constant(1, tf.int64))
    np.testing.assert_array_equal(hidden.query_item[name], again.query_item[name])
    assert (hidden.query_item[name].numpy() != later.query_item[name].numpy()).any()


def test_a_step_that_fails_changes_nothing_and_stops_those_after_it(tiny_data):
    step, recommender, _, sampler = make_step(tiny_data, name="adam")
    good = sampler.batch(epoch=0, batch=0)
    step(good)
    before = weights_of(recommender)
    step(good._replace(query_label=good.query_label * float("nan")))
    step(good)
    assert int(step.failed_step) == 1 and int(step.step) == 1 and np.isnan(float(step.failed_loss))
    for name, value in weights_of(recommender).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_non_finite_loss_ends_the_run_and_keeps_the_batch(tmp_path, tiny_data):
    with pytest.raises(RunError, match=r"at step 0 \(epoch 1, batch 1\) with learning rate 0.02") as error:
        run_small(tiny_data, tmp_path / "run",
                  learner={"name": "maml", "inner_steps": 3, "inner_learning_rate": 1e30})
    path = tmp_path / "run" / "nan" / "step_0.npz"
    assert str(path) in str(error.value) and not (tmp_path / "run" / "run.json").exists()
    config, prepared = load_config(SMALL), PreparedData(tiny_data)
    expected = TaskSampler(prepared.train, config=config.sampler, label=prepared.feature_spec.label,
                           seed=config.seed).batch(epoch=0, batch=0)
    with np.load(path) as stored:
        assert set(stored.files) == set(expected._fields)
        for name, value in expected._asdict().items():
            np.testing.assert_array_equal(stored[name], value)


def test_validation_scores_by_the_path_of_the_evaluation(tiny_data):
    prepared = PreparedData(tiny_data)
    tasks = prepared.tasks("validation")
    config = load_config(SMALL)
    recommender = build_from_config(config, prepared.feature_spec)
    tables = FeatureTables.from_prepared(prepared)

    def validate(**changes):
        return Validation(tasks, recommender=recommender, tables=tables, seed=0,
                          config=dataclasses.replace(config.validation, **changes))

    scores = RecommenderScorer(recommender, tables=tables).score(tasks)
    errors = [np.abs(np.clip(s[:n], 1, 5) - y[:n]).mean()
              for s, y, n in zip(scores, tasks.query_label, tasks.query_length, strict=True)]
    assert validate()()["val_mae"] == pytest.approx(np.mean(errors), abs=1e-6)
    none = validate(k=0)()
    assert none["val_mae"] == none["val_base_mae"]
    assert validate(max_tasks=3)()["val_mae"] == validate(max_tasks=3)()["val_mae"] != validate()()["val_mae"]
    with pytest.raises(ConfigError, match=r"requires states of the validation tasks \(user_cold\)"):
        validate(states=("item_cold",))
    assert not Validation(tasks.select(np.zeros(len(tasks), bool)), recommender=recommender, tables=tables, seed=0,
                          config=config.validation)


def test_an_unknown_early_stopping_metric_is_found_before_training(tmp_path, tiny_data):
    with pytest.raises(ConfigError, match="val_user_cold_mae"):
        run_small(tiny_data, tmp_path / "run", early_stopping={"metric": "val_user_cold_ma"})


def test_tensorboard_has_the_inner_learning_rates(tiny_run):
    _, path = tiny_run
    files = list((path / "tensorboard").glob("events*"))
    tags = set()
    for record in tf.data.TFRecordDataset([str(f) for f in files]):
        event = tf.compat.v1.Event.FromString(record.numpy())
        tags |= {value.tag for value in event.summary.value}
    assert {"train_loss", "validation/mae", "inner_learning_rate/user_vector",
            "inner_learning_rate/user_vector/histogram"} <= tags
