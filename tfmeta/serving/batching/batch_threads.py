"""How many merged batches run at the same time."""

import threading
import typing

if typing.TYPE_CHECKING:
    from tfmeta.serving.batching.batcher import Batcher


class BatchThreads:
    """The slots that the queues of one model share; it owns no thread, requests run in their callers'.

    Every method is to be called with `lock` held.

    Args:
      count: batches that may run at the same time.
    """

    def __init__(self, count: int):
        self.lock = threading.Lock()
        self._count = self._free = count
        self._queues: list[Batcher] = []
        self._next = 0

    @property
    def idle(self) -> bool:
        """Whether no batch runs."""
        return self._free == self._count

    def add(self, queue: "Batcher") -> None:
        """Adds a queue that waits for slots."""
        self._queues.append(queue)

    def take(self) -> bool:
        """Takes a slot; returns False where there is none."""
        if self._free:
            self._free -= 1
            return True
        return False

    def release(self) -> None:
        """Frees a slot and gives it to the next batch that is ready, the queues in turn."""
        self._free += 1
        self.dispatch()

    def dispatch(self) -> None:
        """Gives free slots to batches that are ready."""
        count = len(self._queues)
        missed = 0
        while self._free and missed < count:
            queue = self._queues[self._next % count]
            self._next = (self._next + 1) % count
            if queue.promote():
                self._free -= 1
                missed = 0
            else:
                missed += 1
