"""Cuts the tasks of a block into calls of a signature."""

from collections.abc import Iterator

import numpy as np

# Cells of the padded candidates and supports of one call at most: keeps its memory bounded whatever the lists are.
MOST_CELLS = 1 << 18


def task_batches(queries: np.ndarray, supports: np.ndarray, *, most_tasks: int,
                 most_cells: int = MOST_CELLS) -> Iterator[np.ndarray]:
    """Yields tasks `[B]`, each once, such that lists of one call have similar lengths.

    Args:
      queries: candidates of each task `[n]`.
      supports: interactions of each task `[n]`.
      most_tasks: B at most.
      most_cells: B times the longest lists at most; a task above it goes alone.
    """
    # Along the longer lists: the shorter ones vary within a batch, where they cost little.
    order = np.lexsort((supports, queries)) if queries.max(initial=0) >= supports.max(initial=0) else (
        np.lexsort((queries, supports)))
    begin = 0
    while begin < len(order):
        part = order[begin:begin + most_tasks]
        width = np.maximum.accumulate(queries[part]) + np.maximum.accumulate(supports[part])
        fits = width * np.arange(1, len(part) + 1) <= most_cells
        # Widths only grow, so what fits is a beginning.
        size = max(1, int(fits.sum()))
        yield part[:size]
        begin += size


def cut_lists(counts: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts lists into pieces of at most `most`.

    Args:
      counts: length of each list `[n]`, at least 1.
      most: length of a piece.

    Returns:
      (list of each piece, first element within the list, length), each `[pieces]`.
    """
    pieces = -(-counts // most)
    owner = np.repeat(np.arange(len(counts)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = number * most
    return owner, start, np.minimum(most, counts[owner] - start)
