"""The container's recipe, as far as that shows without building it."""

import importlib.util
import pathlib
import re
import tomllib

import pytest

FOLDER = "trainer/pipelines/container"


@pytest.fixture(scope="module")
def instructions(repository) -> list[tuple[str, str]]:
    """(instruction, the rest) of the Dockerfile, continued lines joined."""
    text = (repository / FOLDER / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def stages(instructions) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list] = {}
    for name, rest in instructions:
        if name == "FROM":
            found[rest.split()[-1]] = []
        found[list(found)[-1]].append((name, rest))
    return found


@pytest.fixture(scope="module")
def project(repository) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))


def test_both_variants_are_stages_on_the_same_base(stages):
    for variant in ("cpu", "gpu"):
        assert stages[variant][0] == ("FROM", f"base AS {variant}")
        assert stages[variant][-1] == ("ENTRYPOINT", '["python", "-m", "trainer.task"]')
        assert ("COPY", "--from=code /app /app") in stages[variant]


def test_modules_that_engines_start_are_there(stages):
    from trainer.pipelines.kfp import pipeline_config

    for module in ("trainer.task", "trainer.pipelines.step"):
        assert importlib.util.find_spec(module) is not None
    config = pipeline_config.PipelineConfig(
        image="tfmeta:1", train_resources=pipeline_config.ResourcesConfig(accelerator="T4", accelerators=1))
    assert config.train_image == "tfmeta:1-gpu"


def test_everything_copied_is_there_and_reaches_the_build(instructions, project, repository):
    sources = [word for name, rest in instructions if name == "COPY" and "--from" not in rest
               for word in rest.split()[:-1]]
    allowed = [line[1:] for line in (repository / FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
               if line.startswith("!")]
    assert {"pyproject.toml", "tfmeta", "trainer", "export"} <= set(sources)
    for source in sources:
        assert (repository / source).exists() and source in allowed, source
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(sources)


def test_dependencies_are_the_projects_own(stages, project):
    extras = project["project"]["optional-dependencies"]
    for variant, tensorflow in (("cpu", "tensorflow-cpu"), ("gpu", '"tensorflow[and-cuda]"')):
        install = next(rest for name, rest in stages[variant] if name == "RUN" and "-r pyproject.toml" in rest)
        assert set(re.findall(r"--extra (\S+)", install)) == {"batch", "gcp", "tune"} <= set(extras)
        assert "--constraint requirements/dev.txt" in install and install.split()[-1] == tensorflow
        # The overrides of pyproject.toml leave TensorFlow out: wanted with tensorflow-cpu only.
        assert ("--no-config" in install) == (variant == "gpu")


def test_python_is_one_that_the_project_supports(stages, project):
    version = re.search(r"python:(\d+)\.(\d+)", stages["base"][0][1])
    assert project["project"]["requires-python"] == ">=3.11,<3.13"
    assert (3, 11) <= tuple(map(int, version.groups())) < (3, 13)


def test_documented_builds_name_the_stages(repository, stages):
    text = (repository / "docs" / "pipelines.md").read_text("utf-8")
    named = set(re.findall(r"docker build -f (\S+) --target (\w+)", text))
    assert named == {(f"{FOLDER}/Dockerfile", variant) for variant in ("cpu", "gpu")}
    assert pathlib.Path(repository / FOLDER / "Dockerfile").exists()
