import os
import signal
import subprocess
import sys
import uuid

import pytest

from tfmeta.errors import DataError
from tfmeta.io import filesystem


@pytest.fixture(params=["local", "ram"])
def base(request, tmp_path):
    if request.param == "local":
        return str(tmp_path)
    path = f"ram://{uuid.uuid4().hex}"
    filesystem.makedirs(path)
    return path


def write_all(folder, names):
    for name in names:
        path = filesystem.join(folder, name)
        filesystem.makedirs(os.path.dirname(path))
        with filesystem.open_file(path, "wb") as file:
            file.write(name.encode())


def test_files_round_trip(base):
    path = filesystem.join(base, "sub", "file.bin")
    filesystem.makedirs(filesystem.join(base, "sub"))
    assert not filesystem.exists(path)
    filesystem.write_bytes(path, b"\x00\xff")
    assert filesystem.read_bytes(path) == b"\x00\xff"
    filesystem.write_text(path, "ü\n")
    assert filesystem.read_text(path) == "ü\n"
    assert filesystem.exists(path) and filesystem.is_dir(filesystem.join(base, "sub"))
    assert filesystem.listdir(filesystem.join(base, "sub")) == ["file.bin"]
    assert list(filesystem.walk(base)) == ["sub/file.bin"]
    filesystem.remove_tree(filesystem.join(base, "sub"))
    assert not filesystem.exists(path)
    filesystem.remove_tree(filesystem.join(base, "sub"))


def test_an_absent_file_is_named(base):
    path = filesystem.join(base, "absent")
    with pytest.raises(DataError, match="absent' does not exist"):
        filesystem.read_bytes(path)


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(DataError, match="cannot be opened"):
        filesystem.read_bytes(str(tmp_path))


def test_an_atomic_directory_appears_whole(base):
    target = filesystem.join(base, "out")
    with filesystem.atomic_directory(target, last=("z.json",)) as folder:
        write_all(folder, ["a", "tasks/b", "z.json"])
        assert not filesystem.exists(target)
    assert sorted(filesystem.walk(target)) == ["a", "tasks/b", "z.json"]
    assert filesystem.read_text(filesystem.join(target, "tasks/b")) == "tasks/b"
    assert filesystem.listdir(base) == ["out"]


def test_an_error_leaves_nothing(base):
    target = filesystem.join(base, "out")
    with pytest.raises(RuntimeError), filesystem.atomic_directory(target) as folder:
        write_all(folder, ["a"])
        raise RuntimeError
    assert filesystem.listdir(base) == []


def test_a_full_directory_is_kept_unless_overwritten(base):
    target = filesystem.join(base, "out")
    with filesystem.atomic_directory(target) as folder:
        write_all(folder, ["old"])
    with pytest.raises(DataError, match="exists already"), filesystem.atomic_directory(target):
        pass
    with pytest.raises(RuntimeError), filesystem.atomic_directory(target, overwrite=True) as folder:
        write_all(folder, ["new"])
        raise RuntimeError
    assert list(filesystem.walk(target)) == ["old"]
    with filesystem.atomic_directory(target, overwrite=True) as folder:
        write_all(folder, ["new"])
    assert list(filesystem.walk(target)) == ["new"]
    assert filesystem.listdir(base) == ["out"]


def test_an_empty_directory_is_filled(base):
    target = filesystem.join(base, "out")
    filesystem.makedirs(target)
    with filesystem.atomic_directory(target) as folder:
        write_all(folder, ["a"])
    assert list(filesystem.walk(target)) == ["a"]


def test_a_file_is_replaced_by_a_directory(tmp_path):
    target = str(tmp_path / "out")
    filesystem.write_bytes(target, b"x")
    with pytest.raises(DataError, match="exists already"), filesystem.atomic_directory(target):
        pass
    with filesystem.atomic_directory(target, overwrite=True) as folder:
        write_all(folder, ["a"])
    assert list(filesystem.walk(target)) == ["a"] and os.listdir(tmp_path) == ["out"]


def test_a_rename_that_fails_restores_what_was_there(tmp_path, monkeypatch):
    target = str(tmp_path / "out")
    with filesystem.atomic_directory(target) as folder:
        write_all(folder, ["old"])
    rename, calls = os.rename, []

    def failing(source, destination):
        calls.append(destination)
        if len(calls) == 2:
            raise OSError("full")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError), filesystem.atomic_directory(target, overwrite=True) as folder:
        write_all(folder, ["new"])
    assert list(filesystem.walk(target)) == ["old"] and os.listdir(tmp_path) == ["out"]


def test_a_remote_copy_that_fails_leaves_nothing(monkeypatch):
    target = f"ram://{uuid.uuid4().hex}/out"
    copied = []
    original = filesystem.open_file

    def failing(path, mode="rb"):
        if mode == "wb" and filesystem.is_remote(path):
            copied.append(path)
            if len(copied) == 2:
                raise OSError("gone")
        return original(path, mode)

    monkeypatch.setattr(filesystem, "open_file", failing)
    with pytest.raises(OSError), filesystem.atomic_directory(target) as folder:
        write_all(folder, ["a", "b", "c"])
    assert len(copied) == 2 and not filesystem.exists(target)


def test_the_last_files_are_copied_last(monkeypatch):
    target = f"ram://{uuid.uuid4().hex}/out"
    order = []
    original = filesystem.open_file

    def recording(path, mode="rb"):
        if mode == "wb" and filesystem.is_remote(path):
            order.append(filesystem.basename(path))
        return original(path, mode)

    monkeypatch.setattr(filesystem, "open_file", recording)
    with filesystem.atomic_directory(target, last=("b", "a")) as folder:
        write_all(folder, ["a", "b", "c", "d"])
    assert order == ["c", "d", "b", "a"]


def test_a_killed_process_leaves_no_directory(tmp_path):
    code = ("import os, sys\nfrom tfmeta.io import filesystem\n"
            "with filesystem.atomic_directory(sys.argv[1]) as folder:\n"
            "    open(os.path.join(folder, 'part'), 'w').write('x')\n"
            "    os.kill(os.getpid(), 9)\n")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], cwd=root)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    left = os.listdir(tmp_path)
    assert len(left) == 1 and left[0].startswith(".out.") and left[0].endswith(".tmp")
    with filesystem.atomic_directory(str(tmp_path / "out")) as folder:
        write_all(folder, ["a"])
    assert (tmp_path / "out" / "a").exists()


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / "file")
    filesystem.write_bytes(path, b"old")

    def failing(*_):
        raise OSError("full")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError):
        filesystem.write_bytes(path, b"new")
    assert filesystem.read_bytes(path) == b"old" and os.listdir(tmp_path) == ["file"]


def test_names():
    assert filesystem.join("gs://b/", "x/", "/y") == "gs://b/x/y"
    assert filesystem.basename("gs://b/x/") == "x"
    assert filesystem.is_remote("s3://b") and not filesystem.is_remote("/a/b")
