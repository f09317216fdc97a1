import itertools
import threading
import time

import pytest

from tfmeta.data.read_ahead import read_ahead


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


@pytest.mark.parametrize("number", [0, 1, 3, 20])
def test_all_items_in_order(number):
    assert list(read_ahead(range(number), depth=3)) == list(range(number))
    assert not threads()


def test_as_many_as_asked_are_fetched_before_they_are_needed():
    fetched = []
    items = read_ahead((fetched.append(i) or i for i in itertools.count()), depth=3)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(fetched) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert fetched == [0, 1, 2, 3]
    items.close()
    assert not threads()


def test_an_error_comes_in_its_turn():
    def broken():
        yield from range(5)
        raise OSError("the disk is gone")

    items = read_ahead(broken(), depth=4)
    assert [next(items) for _ in range(5)] == list(range(5))
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert not threads()
