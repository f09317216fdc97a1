"""Splits that ask about everybody's last interactions."""

import numpy as np
import pytest

from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.draw import draw_split
from tfmeta.errors import ConfigError


def test_the_query_is_the_last_in_time_and_the_support_what_came_before():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 8)
    item = np.concatenate([rng.choice(50, 8, replace=False) for _ in range(60)])
    time = np.concatenate([rng.permutation(8) for _ in range(60)])
    config = SplitConfig(last_out=True, query_size=1, min_interactions=4, max_interactions=None, cold_item_share=0.0,
                         validation_item_share=0.0)
    split = draw_split(config, user_ids=np.arange(60), item_ids=np.arange(50), user_row=user, item_row=item, time=time)
    assert set(split.test.state) == {"warm", "user_cold"} and set(split.validation.state) == {"user_cold"}
    for tasks in (split.test, split.validation):
        assert (tasks.split == 0).all() and (tasks.query_length == 1).all() and (tasks.support_length == 7).all()
        assert (time[tasks.query] == 7).all()
        np.testing.assert_array_equal(time[tasks.support].reshape(-1, 7), np.tile(np.arange(7), (len(tasks), 1)))
    # Users are cold by chance, not because they came last; the warm users' last rows are withheld from training.
    assert not split.train[split.test.query].any()


def test_nothing_is_drawn_twice():
    with pytest.raises(ConfigError, match=r"num_splits.*last_out"):
        SplitConfig(last_out=True, num_splits=3)
