"""Large matrix products by NumPy: the most that this machine's arithmetic gives. A "step" is one product of 1024."""

import numpy as np

from benchmarks.peers.worker import arguments, serve

SIZE = 1024
FLOPS = 2 * SIZE**3


def main() -> None:
    arguments()
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((SIZE, SIZE)).astype(np.float32) for _ in range(2))
    out = np.empty_like(left)

    def step(_: int) -> float:
        np.matmul(left, right, out=out)
        return float(out[0, 0])

    serve(step, loss=float, wait=lambda _: None, versions={"numpy": np.__version__})


if __name__ == "__main__":
    main()
