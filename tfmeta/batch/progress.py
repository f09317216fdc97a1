"""A bar for what workers finish, wherever they run."""

import sys
import threading

from tfmeta.io import filesystem


class Progress:
    """Counts the records in a directory, once a second, on standard error.

    Args:
      folder: where a file `<name>.json` appears for each thing that is done.
      total: how many there will be.
      unit: what they are.
      name: what is going on.
      shown: whether to show anything.
    """

    def __init__(self, folder: str, *, total: int, unit: str, name: str, shown: bool):
        self._folder, self._total, self._unit, self._name, self._shown = folder, total, unit, name, shown
        self._stop = threading.Event()

    def __enter__(self) -> "Progress":
        if self._shown:
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, unit=self._unit, desc=self._name, file=sys.stderr, dynamic_ncols=True)
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if self._shown:
            self._stop.set()
            self._thread.join()
            self._count()
            self._bar.close()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self._count()

    def _count(self) -> None:
        try:
            names = filesystem.listdir(self._folder) if filesystem.is_dir(self._folder) else []
        except OSError:  # The directory may go while it is looked at.
            return
        self._bar.update(sum(n.endswith(".json") for n in names) - self._bar.n)
