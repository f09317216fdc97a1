"""The best items of the catalogue for users, under any fast weights."""

import tensorflow as tf

from export.items.catalogue_items import CatalogueItems
from export.retrieval.diversify import diversify
from export.retrieval.scan import Rank, top_rows
from tfmeta.learners.bayesian import Bayesian
from tfmeta.learners.task_tensors import Query
from tfmeta.models.fast_weights import Fast
from tfmeta.models.recommender import Recommender

RETRIEVALS = ("auto", "exact", "none")
# Rows ranked at a time: products with a vector, and runs of the whole model.
INDEX_CHUNK, MODEL_CHUNK = 16384, 1024
# Candidates for each item of a diverse list.
POOL = 4


def is_available(recommender: Recommender, *, retrieval: str) -> bool:
    """Tells whether an export with a catalogue has the signatures of retrieval.

    Args:
      recommender: to be exported.
      retrieval: `auto` where scoring a catalogue is cheap: its scores are one product with the table of items, or
        come from a closed-form head over item vectors that no user changes; `exact` for every model; `none` for none.
    """
    learner = recommender.learner
    cheap = learner.has_index or (isinstance(learner, Bayesian) and recommender.model.has_index)
    return retrieval == "exact" or (retrieval == "auto" and cheap)


class Retriever:
    """Finds the K best items of a catalogue, exactly, in core operations.

    Items rank by the learner's output before it becomes a score, which has no ties where a probability would round to
    1, equal ones in the catalogue's order. Where the learner has an index the outputs are one product with the table of
    items; otherwise the model runs on a chunk of the catalogue at a time. The K best are then scored as `score` would
    score them, and ordered by that.

    `tensorflow_recommenders`' `BruteForce` layer does not fit here: it needs Keras 2, it has to fetch K + E candidates
    to leave E out and compares each with each, it needs E and K + E to be within the catalogue's size, and it returns
    excluded items with a very low score where others run out.

    Args:
      recommender: with its weights.
      items: the catalogue.
      top_k: K.
      diversity: weight of maximal marginal relevance, 0 to 1; 0 leaves the order by score.
      chunk: rows of the catalogue that are ranked at a time; None chooses.
    """

    def __init__(self, recommender: Recommender, items: CatalogueItems, *, top_k: int, diversity: float = 0.0,
                 chunk: int | None = None):
        self._recommender, self._items = recommender, items
        self._top_k, self._diversity = top_k, diversity
        self._by_index = recommender.learner.has_index
        self._chunk = chunk or (INDEX_CHUNK if self._by_index else MODEL_CHUNK)
        self._count = items.shape[0]

    def recommend(self, user: tf.Tensor, *, excluded: tf.Tensor, fast: Fast | None = None,
                  adapted: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        """Returns the best items of B users.

        Args:
          user: `[B, Du]`, encoded.
          excluded: `[B, E]` int32, rows of the catalogue to leave out; its size stands for none.
          fast: adapted fast weights; None for the unadapted list.
          adapted: bool `[B]`, users whose fast weights count; others get their unadapted list, as do those for whom
            an adapted output is not finite.

        Returns:
          `item_ids [B, K]` raw ids, the missing id where fewer than K are left; `scores [B, K]` float32, -inf there;
          `item_count [B]` int32, items that were found.
        """
        base = self._recommender.learner.init(user)
        if fast is None:
            values, rows, _ = self._search(self._rank(base, user), excluded)
            return self._answer(values, rows, lambda items: self._recommender.predict_scores(base, user, items))
        values, rows, finite = self._search(self._rank(fast, user, base=base, adapted=adapted), excluded)
        usable = adapted & finite

        def again():
            unadapted = self._search(self._rank(base, user), excluded)
            return [tf.where(finite[:, None], a, b) for a, b in zip((values, rows), unadapted[:2], strict=True)]

        values, rows = tf.cond(tf.reduce_all(finite), lambda: [values, rows], again)

        def score(items):
            return tf.where(usable[:, None], self._recommender.predict_scores(fast, user, items),
                            self._recommender.predict_scores(base, user, items))

        return self._answer(values, rows, score)

    def _rank(self, fast: Fast, user: tf.Tensor, *, base: Fast | None = None, adapted: tf.Tensor | None = None) -> Rank:
        table, learner = self._items.table, self._recommender.learner
        if not self._by_index:
            def by_model(start, size):
                item = table[start:start + size]
                item = tf.broadcast_to(item, tf.concat([tf.shape(user)[:1], tf.shape(item)], axis=0))
                item = tf.ensure_shape(item, [None, size, table.shape[1]])
                return learner.predict(fast, Query(user=user, item=item)).output

            return by_model
        vector, _ = learner.index_user(fast, user)
        if base is not None:
            vector = tf.where(adapted[:, None], vector, learner.index_user(base, user)[0])
        # One for the item's bias; what all items have in common ranks none.
        vector = tf.concat([vector, tf.ones_like(vector[:, :1])], axis=1)

        def by_index(start, size):
            return tf.linalg.matmul(vector, self._recommender.model.index_items(table[start:start + size]),
                                    transpose_b=True)

        return by_index

    def _search(self, rank: Rank, excluded: tf.Tensor) -> tuple[tf.Tensor, ...]:
        count = min(self._count, self._top_k * (POOL if self._diversity else 1))
        return top_rows(rank, items=self._count, count=count, chunk=self._chunk, excluded=excluded)

    def _answer(self, values: tf.Tensor, rows: tf.Tensor, score) -> dict[str, tf.Tensor]:
        count = min(self._count, self._top_k)
        if self._diversity:
            vectors = self._vectors(tf.gather(self._items.table, rows))
            order = diversify(values, vectors, count=count, weight=self._diversity)
            # What is no candidate has the value -inf; the last column is one more of these.
            values, rows = (tf.gather(tf.pad(x, [[0, 0], [0, 1]], constant_values=nothing), order, batch_dims=1)
                            for x, nothing in ((values, -float("inf")), (rows, 0)))
        scores = tf.cast(score(tf.gather(self._items.table, rows)), tf.float32)
        found = tf.math.is_finite(values) & tf.math.is_finite(scores)
        scores = tf.where(found, scores, -float("inf"))
        if not self._diversity:
            # By the served score, which may round otherwise than the product; of equal ones the better product first.
            top = tf.math.top_k(scores, k=count)
            scores, rows, found = (tf.gather(x, top.indices, batch_dims=1) for x in (scores, rows, found))
        missing = self._recommender.feature_spec.item_id.missing
        ids = tf.where(found, tf.gather(self._items.ids, rows), tf.constant(missing, self._items.ids.dtype))
        rest = [[0, 0], [0, self._top_k - count]]
        return {"item_ids": tf.ensure_shape(tf.pad(ids, rest, constant_values=missing), [None, self._top_k]),
                "scores": tf.ensure_shape(tf.pad(scores, rest, constant_values=-float("inf")), [None, self._top_k]),
                "item_count": tf.reduce_sum(tf.cast(found, tf.int32), axis=1)}

    def _vectors(self, item: tf.Tensor) -> tf.Tensor:
        """What items are compared by: their vectors, without a bias, or representations where there are none."""
        model = self._recommender.model
        return model.index_items(item)[..., :-1] if model.has_index else item
