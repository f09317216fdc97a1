"""Fast context adaptation."""

from typing import ClassVar

import keras

from tfmeta.learners.maml import MAML


@keras.saving.register_keras_serializable("tfmeta")
class CAVIA(MAML):
    """MAML whose inner loop moves a context vector, an additional input of the model; all weights are slow.

        phi_0 = 0,   phi_{t+1} = phi_t - alpha * grad_phi L_support(phi_t, theta),   outer loss = L_query(phi_T, theta)

    Source: Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson, "Fast Context Adaptation via Meta-Learning", ICML 2019,
    section 3.1, equations 5 to 7; the context is concatenated to the inputs of a layer as in section 3.3. It enters
    the decision layers of the embedding model and the user tower of the two-tower model (scope `context`, width
    `model.context_dim`), so a user's state is that many numbers. Deviations: those of `MAML` (`learn_rates: fixed` is
    the paper's rate). Arguments as there.

    Raises:
      ConfigError: if the model's scope is another, or a value is out of range.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ("context",)
    NAME: ClassVar[str] = "cavia"
