import pytest
import yaml

from tfmeta import config as configs
from tfmeta.errors import ConfigError
from trainer.config import TrainConfig, load_config, packaged_configs


def test_defaults_and_packaged_configurations_parse_and_round_trip():
    assert set(packaged_configs()) >= {"demo", "quick"}
    for source in (None, "demo", "quick"):
        config = load_config(source)
        text = yaml.safe_dump(configs.to_dict(config))
        assert configs.parse(TrainConfig, yaml.safe_load(text)) == config
    assert load_config("quick").early_stopping is None


def test_file_and_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("epochs: 7\noptimizer: {learning_rate: 1e-2}\nsampler: {support_size: [1, 5]}\n")
    config = load_config(str(path), overrides=["seed=4", "learner.inner_steps=2", "validation.k=5"])
    assert (config.epochs, config.seed, config.optimizer.learning_rate) == (7, 4, 0.01)
    assert config.learner == {"inner_steps": 2} and config.sampler.support_size == (1, 5)
    assert config.validation.k == 5 and load_config(None).validation.k == "all"


@pytest.mark.parametrize(("values", "message"), [
    ({"epoch": 3}, "Did you mean 'epochs'"),
    ({"optimizer": {"learning_rat": 3}}, "optimizer.learning_rat"),
    ({"optimizer": {"learning_rate": 0}}, "learning_rate"),
    ({"optimizer": {"name": "adm"}}, "Did you mean 'adam'"),
    ({"optimizer": {"momentum": 0.9}}, "momentum"),
    ({"sampler": {"query_size": 20}}, "min_interactions"),
    ({"item_id_dropout": 1.0}, "item_id_dropout"),
    ({"item_id_dropout_spread": 1.5}, "item_id_dropout_spread"),
    ({"seed": -1}, "seed"),
    ({"precision": "float16"}, "precision"),
    ({"validation": {"states": ["user_warm"]}}, "Did you mean"),
    ({"validation": {"k": "some"}}, "validation.k"),
    ({"early_stopping": {"metric": "mae"}}, "val_mae"),
    ({"checkpoint": {"keep": 0}}, "keep"),
])
def test_wrong_values_are_refused_by_name(values, message):
    with pytest.raises(ConfigError, match=message):
        load_config(values)


def test_absent_files_are_named():
    with pytest.raises(ConfigError, match="Did you mean 'demo'"):
        load_config("dmo")
    with pytest.raises(ConfigError, match=r"nowhere/x.yaml"):
        load_config("nowhere/x.yaml")
