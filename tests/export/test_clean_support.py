import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.data.label import Label

values = st.one_of(st.floats(-10, 10, width=32), st.sampled_from([np.nan, np.inf, -np.inf]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.lists(values, min_size=5, max_size=5), st.integers(-3, 9)), min_size=1, max_size=4),
       st.integers(1, 7))
def test_against_plain_python(tasks, bound):
    from export.signatures.support import clean_support

    label = np.array([row for row, _ in tasks], np.float32)
    length = np.array([n for _, n in tasks], np.int32)
    clean = clean_support(label, length, info=Label("rating"), bound=bound)
    for i, row in enumerate(label):
        inside = min(max(int(length[i]), 0), 5)
        kept = [j for j in range(inside) if np.isfinite(row[j])][-bound:]
        assert clean.length.numpy()[i] == len(kept)
        assert clean.index.numpy()[i, :len(kept)].tolist() == kept
        assert clean.label.numpy()[i, :len(kept)].tolist() == np.clip(row[kept], 1, 5).tolist()
        assert not clean.label.numpy()[i, len(kept):].any()
        assert bool(clean.dropped.numpy()[i]) == (not np.isfinite(row[:inside]).all())
        assert bool(clean.clamped.numpy()[i]) == (inside != length[i])
    assert clean.index.shape[1] == min(5, bound)


def test_rows_are_gathered_in_order():
    import tensorflow as tf

    from export.signatures.support import clean_support

    clean = clean_support(tf.constant([[1.0, np.nan, 3.0, 4.0]]), tf.constant([4]), info=Label("rating"), bound=2)
    assert clean.gather(tf.constant([["a", "b", "c", "d"]])).numpy().tolist() == [[b"c", b"d"]]
    assert clean.gather(tf.constant([[[1, 1], [2, 2], [3, 3], [4, 4]]])).numpy().tolist() == [[[3, 3], [4, 4]]]
