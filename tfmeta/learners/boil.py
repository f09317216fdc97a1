"""Body only in the inner loop."""

from typing import ClassVar

import keras

from tfmeta.learners.maml import MAML


@keras.saving.register_keras_serializable("tfmeta")
class BOIL(MAML):
    """MAML whose inner loop moves the body alone; the last layer is slow. ANIL's opposite.

        body_{t+1} = body_t - alpha * grad_body L_support(head, body_t),   outer loss = L_query(head, body_T)

    Source: Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-shot Learning", ICLR 2021, section 3.1.
    The body is every dense kernel but the last (scope `body`; the last one of each tower in the two-tower model).
    Deviations: embedding tables are slow, because a task's gradient by them would be as large as the table; those of
    `MAML`. Arguments as there.

    Raises:
      ConfigError: if the model's scope is another, or a value is out of range.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ("body",)
    NAME: ClassVar[str] = "boil"
