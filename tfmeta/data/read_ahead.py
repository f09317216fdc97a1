"""Iterating in a thread."""

import collections
import concurrent.futures
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterable[T], *, depth: int = 4) -> Iterator[T]:
    """Yields the items, of which a thread fetches up to `depth` before they are asked for.

    Whatever fetching raises is raised in its turn; the thread ends with the generator.

    Args:
      items: none of them None.
      depth: at least 1.
    """
    iterator = iter(items)
    thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
    try:
        pending = collections.deque(thread.submit(next, iterator, None) for _ in range(depth))
        while (item := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, iterator, None))
            yield item
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
