"""The workers of `make test`: what files and the folder `export` share is made once, because one worker runs it all."""

import importlib.util
import re
import subprocess
import sys


def test_a_file_is_one_workers(repository):
    files = sorted(str(path.relative_to(repository)) for path in (repository / "tests" / "metrics").glob("test_*.py"))
    done = subprocess.run([sys.executable, "-m", "pytest", "-vv", "-n", "2", "--dist", "loadfile", *files],
                          cwd=repository, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    workers = {}
    for worker, file in re.findall(r"\[(gw\d+)\].*? PASSED (\S+?)::", done.stdout):
        workers.setdefault(file, set()).add(worker)
    assert sorted(workers) == files and all(len(found) == 1 for found in workers.values()), workers
    assert len(set.union(*workers.values())) == 2


def test_a_folder_that_shares_is_one_workers(repository):
    spec = importlib.util.spec_from_file_location("shared_fixtures", repository / "tests" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.group_of("tests/export/retrieval/test_a.py::test_b[c]") == "export"
    assert module.group_of("tests/export/test_d.py::test_e") == "export"
    assert module.group_of("tests/data/test_a.py::test_b") == "tests/data/test_a.py"
