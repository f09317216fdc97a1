"""Where TensorFlow takes the memory of tensors from."""

import contextlib
import os
from collections.abc import Iterator

_USE, _LIMIT = "TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB"


@contextlib.contextmanager
def keep_tensor_memory() -> Iterator[None]:
    """Lets TensorFlow keep the host memory of tensors that are freed for those to come, as on GPUs.

    A compiled step computes in one block. Where that is larger than what malloc keeps (32 MiB with glibc), the system
    takes it back after every step and hands it out again page by page, which can take as long as the step.

    TensorFlow reads its variables for this once, when it makes its devices: the first context of a process decides,
    and none does anything after that. A user's own setting of the variables stays. They are put back at the end, for
    processes that are started later. Also a decorator.
    """
    if _USE in os.environ or not hasattr(os, "sysconf"):
        yield
        return
    # The default limit is 64 GiB. Blocks are reserved by doubling and most are never touched, so a limit at the
    # machine's memory would come too early.
    limit = 4 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    added = {_USE: "1"} if _LIMIT in os.environ else {_USE: "1", _LIMIT: str(limit)}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
