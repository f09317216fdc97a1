"""The browser and a server of real exports; both are for `make test-browser` alone."""

import os
import pathlib

import pytest
from chromium import Chromium, find

HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(config, items):
    """Leaves these tests out unless they are asked for: with -m, or by their own path."""
    asked = "browser" in config.getoption("markexpr") or any("browser" in str(arg) for arg in config.args)
    mine = [item for item in items if HERE in item.path.parents]
    if mine and not asked:
        config.hook.pytest_deselected(items=mine)
        items[:] = [item for item in items if HERE not in item.path.parents]


@pytest.fixture(scope="session")
def page_bases(tmp_path_factory) -> dict[str, str]:
    from page_models import build_models

    return build_models(str(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if find() is None:
        pytest.fail("chromium is not installed. 'make test-browser' installs Debian's where apt-get may, else install "
                    "the package 'chromium' by hand.")
    made = Chromium(str(tmp_path_factory.mktemp("profile")))
    yield made
    made.close()


@pytest.fixture(scope="session")
def shoot(browser, tmp_path_factory):
    """`shoot(name)` takes a picture, into the directory TFMETA_SCREENSHOTS or one that is thrown away."""
    directory = pathlib.Path(os.environ.get("TFMETA_SCREENSHOTS") or tmp_path_factory.mktemp("pictures"))
    directory.mkdir(parents=True, exist_ok=True)
    return lambda name: browser.shoot(str(directory / f"{name}.png"))
