"""Almost no inner loop: MAML on the head alone, MeLU's local update among its forms."""

from typing import ClassVar

import keras

from tfmeta.learners.maml import MAML


@keras.saving.register_keras_serializable("tfmeta")
class ANIL(MAML):
    """MAML whose inner loop moves the head alone; the body that represents user and item is slow.

        head_{t+1} = head_t - alpha * grad_head L_support(head_t, body),   outer loss = L_query(head_T, body)

    Source: Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness
    of MAML", ICLR 2020, section 4.1. What the head is, is the model's scope:

    - `head` (default on the embedding model): all decision layers, the embeddings being slow. This is the local
      update of MeLU (Lee et al., KDD 2019, section 3.2, algorithm 1, line 7: the decision-making layers are updated
      per user, the embeddings only globally), with as many steps as `inner_steps` where MeLU takes one.
    - `user_vector` (default on the two-tower model): the vector that item vectors are multiplied with, which is the
      linear layer on top of the item tower, with an initial value of its own for every user.
    - `last_layer`: the last linear layer, as in the paper.

    Deviations: those of `MAML`, and its arguments.

    Raises:
      ConfigError: if the model's scope is none of the three, or a value is out of range.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ("head", "user_vector", "last_layer")
    NAME: ClassVar[str] = "anil"
