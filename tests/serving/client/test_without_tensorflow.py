"""The client in an environment that has nothing but numpy, grpcio and protobuf."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest
from fake_server import FakeServer

ASK = """
    import asyncio, sys
    sys.path.insert(0, {path!r})
    from tfmeta.serving import AsyncClient, Client, RestClient
    from tfmeta.serving.client import Unavailable

    kwargs = dict(user={{"age": 1.0}}, support=[("m1", 5.0)], candidates=["m7", "m8"])
    with Client({address!r}, model="m") as client:
        assert [round(float(s), 3) for s in client.adapt_and_score(**kwargs).scores] == [7.1, 8.1]

    async def ask():
        async with AsyncClient({address!r}, model="m") as client:
            return await client.adapt_and_score(**kwargs)

    assert asyncio.run(ask()).version == 1
    with RestClient("127.0.0.1:1") as client:
        try:
            client.predict("m", {{"x": [1]}}, timeout=10)
            raise SystemExit("something answered")
        except Unavailable:
            pass
    from tfmeta.cli import build_parser
    from tfmeta.serving import request_command
    arguments = build_parser("request", request_command).parse_args(
        ["--model", "m", "--address", {address!r}, "--candidates", "m3"])
    assert request_command.run(arguments) == 0
"""


@pytest.fixture(scope="module")
def fake():
    server = FakeServer()
    yield server
    server.close()


def run(interpreter, code, *, env=None):
    done = subprocess.run([*interpreter, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False,
                          env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_but_numpy_grpcio_and_protobuf(fake, tmp_path, repository):
    """The three packages alone on the path (-S leaves out the environment's own, -E its variables)."""
    installed = pathlib.Path(importlib.metadata.distribution("numpy").locate_file(""))
    for name in ("numpy", "numpy.libs", "grpc", "typing_extensions.py"):
        if (installed / name).exists():
            (tmp_path / name).symlink_to(installed / name)
    (tmp_path / "google").mkdir()
    for name in ("protobuf", "_upb"):
        (tmp_path / "google" / name).symlink_to(installed / "google" / name)
    (tmp_path / "tfmeta").symlink_to(repository / "tfmeta")
    code = textwrap.dedent(ASK).format(path=str(tmp_path), address=fake.address) + textwrap.dedent("""
        for name in ("tensorflow", "tensorflow_serving", "keras", "pandas", "yaml", "opentelemetry"):
            assert name not in sys.modules
            try:
                __import__(name)
                raise SystemExit(f"{name} is there")
            except ImportError:
                pass
        """)
    out = run([sys.executable, "-S", "-E"], code)
    assert "m3" in out


@pytest.mark.parametrize("order", ["before", "after"])
def test_with_tensorflow_in_the_same_process(fake, order, repository):
    """Neither disturbs the other, whichever is imported first: the messages have names of their own."""
    tensorflow = textwrap.dedent("""
        import numpy as np
        import tensorflow as tf
        from tensorflow_serving.apis import model_service_pb2, predict_pb2, prediction_service_pb2
        request = predict_pb2.PredictRequest()
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([1.0])))
        example = tf.train.Example()
        example.features.feature["x"].float_list.value.append(1.0)
        """)
    check = textwrap.dedent("""
        from tfmeta.serving import wire
        ours = wire.PredictRequest.FromString(request.SerializeToString())
        assert ours.inputs["x"].SerializeToString() == request.inputs["x"].SerializeToString()
        assert wire.Example.FromString(example.SerializeToString()).features.feature["x"].float_list.value == [1.0]
        assert wire.is_example(example.SerializeToString()) and not wire.is_example(b"\\xff")
        """)
    ask = textwrap.dedent(ASK).format(path=str(repository), address=fake.address)
    parts = [ask, tensorflow] if order == "before" else [tensorflow, ask]
    run([sys.executable], "\n".join([*parts, check, ask]), env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})


@pytest.mark.slow
def test_an_environment_made_with_no_deps(fake, tmp_path, repository):
    """The wheel installed with --no-deps into a new environment, beside the three packages alone."""
    source = tmp_path / "source"
    shutil.copytree(repository, source, ignore=lambda folder, names: [
        n for n in names if n.startswith(".") or n in ("runs", "tests", "benchmarks", "docs", "build")])
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        uv = shutil.which("uv")
        if uv is None:
            pytest.skip("neither pip nor uv is there to build and install a wheel")
        build = [uv, "build", "--wheel", "--no-build-isolation", "--offline", "--python", sys.executable, "-q",
                 "--out-dir", str(tmp_path / "wheel"), str(source)]
    else:
        build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path / "wheel"),
                 str(source)]
    subprocess.run(build, check=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    site = next((environment / "lib").glob("python*/site-packages"))
    shutil.unpack_archive(wheel, site, "zip")
    for name in ("numpy", "grpcio", "protobuf", "typing_extensions"):
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files:
            if ".." not in file.parts:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(distribution.locate_file(file), site / file)
    python = environment / "bin" / "python"
    run([str(python)], textwrap.dedent(ASK).format(path=str(site), address=fake.address), env={})
    out = subprocess.run([str(python), "-m", "tfmeta", "request", "--model", "m", "--address", fake.address,
                          "--candidates", "m4", "--json"], capture_output=True, text=True, check=True, env={},
                         cwd=tmp_path)
    assert '"scores": [4.099999' in out.stdout
    assert "tensorflow" not in os.listdir(site)
