"""Keeps TensorFlow's start-up notes off the terminal without importing TensorFlow."""

import contextlib
import importlib.abc
import importlib.util
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator

# `TF_CPP_MIN_LOG_LEVEL` does not reach what is logged before absl is initialised: these lines.
_NOTES = re.compile(rb"(I\d{4} [\d:.]+ +\d+ |WARNING: All log messages before absl::InitializeLog)")


def quiet_tensorflow() -> None:
    """Drops TensorFlow's informative C++ log lines and its notes on deprecation; other warnings and errors stay.

    Call it before TensorFlow is imported. It does nothing if the user has set `TF_CPP_MIN_LOG_LEVEL`.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    # The session loader, TensorFlow Serving's own, is announced as deprecated at every use.
    logging.getLogger("tensorflow").addFilter(lambda record: "is deprecated and will be" not in record.getMessage())
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the loader of `tensorflow`, once."""

    def find_spec(self, fullname, path, target=None):
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                with _without_notes():
                    execute(module)

            spec.loader.exec_module = exec_module
        return spec


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """Holds back what is written to file descriptor 2, then passes on all but the notes."""
    try:
        saved = os.dup(2)
    except OSError:  # Standard error is closed: nothing to hold back.
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held:
                if not _NOTES.match(line):
                    os.write(2, line)
