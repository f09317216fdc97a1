"""Tasks and scorers with known answers."""

import numpy as np

from tfmeta.data.label import Label
from tfmeta.data.task_set import TaskSet

LABEL = Label("y", "rating", 1, 5, 4)


def make_tasks(*, users=60, splits=3, query=6, support=8, states=("user_cold", "item_cold"), seed=0) -> TaskSet:
    rng = np.random.default_rng(seed)
    count = users * splits * len(states)
    length = rng.integers(0, support + 1, count).astype(np.int32)
    real = np.arange(support)[None, :] < length[:, None]
    items = rng.integers(0, 100, (count, support + query)).astype(np.int32)
    labels = rng.integers(1, 6, (count, support + query)).astype(np.float32)
    return TaskSet(
        state=np.repeat(states, users * splits), user_row=np.tile(np.repeat(np.arange(users), splits), len(states)),
        split=np.tile(np.arange(splits), users * len(states)).astype(np.int32),
        support_item=np.where(real, items[:, :support], -1).astype(np.int32),
        support_label=np.where(real, labels[:, :support], np.nan).astype(np.float32), support_length=length,
        query_item=items[:, support:], query_label=labels[:, support:],
        query_length=np.full(count, query, np.int32))


class Peeking:
    """Knows the labels, blurred by noise that shrinks with the support; remembers what it was shown."""

    probability = False
    label_unit = True
    uses_history = False

    def __init__(self, tasks, *, name="learner", role="learner", noise=2.0, uses_support=True, selected=False, seed=0):
        self.name, self.role, self.noise, self.selected, self.seed = name, role, noise, selected, seed
        self.uses_support = uses_support
        self.truth = {state: tasks.in_state(state).query_label for state in tasks.states}
        self.calls = []

    def score(self, tasks):
        self.calls.append(tasks)
        rng = np.random.default_rng(self.seed)
        truth = self.truth[tasks.state[0]]
        noise = self.noise / (1.0 + (tasks.support_length[:, None] if self.uses_support else 0))
        return truth + noise * rng.normal(size=truth.shape)
