"""MAML on low-rank deltas."""

from typing import ClassVar

import keras

from tfmeta.learners.maml import MAML


@keras.saving.register_keras_serializable("tfmeta")
class LowRankAdaptation(MAML):
    """MAML whose inner loop moves small changes of the dense layers; all kernels are slow.

        z_l = (1 + g_l) * (h_{l-1} (K_l + A_l D_l) + b_l) + s_l,   (D, g, s)_0 = 0
        (D, g, s)_{t+1} = (D, g, s)_t - alpha * grad L_support,   outer loss = L_query after T steps

    `D_l` has `model.rank` rows; `A_l` is meta-learned, and so chooses the directions in which users differ. Sources:
    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, section 4.1, for the product; Perez et
    al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018, section 2.1, for scale g and shift s;
    Zintgraf et al., "Fast Context Adaptation via Meta-Learning", ICML 2019, section 3.4, for adapting FiLM by gradient
    steps. Deviations: A is slow and D alone adapts, so a user's state stays small; those of `MAML`. Arguments as
    there.

    Raises:
      ConfigError: if the model's scope is not `low_rank`, or a value is out of range.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ("low_rank",)
    NAME: ClassVar[str] = "low_rank"
