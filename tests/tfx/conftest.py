"""The TFX pipeline's tests want TFX, which has an environment of its own: `make test-tfx`.

Elsewhere nothing here is collected.
"""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("ml_metadata") and importlib.util.find_spec("tfx") else ["test_*"]
