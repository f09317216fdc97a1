"""The examples do what they say."""

import importlib.util

import pytest


@pytest.fixture(scope="module")
def quickstart(repository):
    path = repository / "examples" / "quickstart.py"
    spec = importlib.util.spec_from_file_location("quickstart", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_quickstart_adapts_to_a_new_user(quickstart, capsys):
    table = quickstart.main()
    mean = table.groupby("genre")[["unadapted", "adapted"]].mean()
    moved = mean["adapted"] - mean["unadapted"]
    assert moved["western"] > 1.0 and moved["horror"] < -1.0
    # The genres that the user said nothing about move much less.
    assert max(abs(moved["comedy"]), abs(moved["drama"])) < 0.5 * moved["western"]
    assert set(table["genre"].head(5)) == {"western"}
    # Rated films are not among the candidates.
    assert len(table) == quickstart.NUM_FILMS - 6
    assert "western" in capsys.readouterr().out


def test_quickstart_stays_short(repository):
    assert len((repository / "examples" / "quickstart.py").read_text("utf-8").splitlines()) <= 100
