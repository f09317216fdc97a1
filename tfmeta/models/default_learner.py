"""The learner of a configuration that names none."""

import inspect
from collections.abc import Sequence

import numpy as np

from tfmeta.data.label import Label
from tfmeta.errors import ConfigError, suggest
from tfmeta.learners.learner import Learner
from tfmeta.learners.losses import SOFTMAX
from tfmeta.learners.maml import MAML
from tfmeta.learners.ordinal_ridge import OrdinalRidge
from tfmeta.learners.ridge import Ridge
from tfmeta.models.meta_model import MetaModel

# In the order in which they are tried: the best for its cost first.
CLASSES: dict[str, type[Learner]] = {"ordinal_ridge": OrdinalRidge, "ridge": Ridge, "maml": MAML}
# Distances between adjacent rating levels that are looked for.
STEPS = (1.0, 0.5, 0.1)
_MOST_STEPS = 100  # as `OrdinalRidge` takes


def default_learner(label: Label, *, model_class: type[MetaModel], model: dict, learner: dict,
                    levels: Sequence[float] | None = None, positives_only: bool = False, alike: bool = False) -> dict:
    """Completes the options of a learner that has no name.

    The first that fits is taken:

    1. `ordinal_ridge`: ratings on levels, and a model with a linear head in the learner's scope (`two_tower` with its
       default scope). Levels are minimum, minimum + step, ..., maximum with a step of 1, 0.5 or 0.1.
    2. `ridge`: any label, a model as in 1.
    3. `maml`: everything else, such as `embedding` with its default scope.

    With `positives_only` their outer loss is the softmax over all items (and, of labels that are all alike, the inner
    loss of `ridge` the squared error) unless a loss is given or the model has no index.

    One fits only if it has all the options given: `{"inner_steps": 3}` without a name is `maml`.

    Args:
      label: of the data.
      model_class: of the model.
      model: its options, without its name.
      learner: options without a name, `scope` among them or not.
      levels: distinct labels that occur; None if unknown, then the label's bounds alone decide about levels.
      positives_only: whether labels are implicit feedback and the learner will see positive ones alone.
      alike: whether these are all the same, as those of visits.

    Returns:
      The options with `name`, `step` where it is `ordinal_ridge` and the step is not 1, and losses as said above.

    Raises:
      ConfigError: if none of the three has one of the options.
    """
    options = {name: _options(cls) for name, cls in CLASSES.items()}
    given = {k: v for k, v in learner.items() if k != "scope"}
    for key in given:
        known = set().union(*options.values())
        if key not in known:
            raise ConfigError(f"Unknown key 'learner.{key}'.{suggest(key, ['name', *sorted(known)])}")
    scope = learner.get("scope") or model_class.SCOPES[0]
    chosen = positives_only and model_class.indexes(scope) and not {"inner_loss", "outer_loss"} & set(given)
    losses = {"outer_loss": SOFTMAX} if chosen else {}
    fitting = {"maml": losses}
    if model_class.has_linear_head(scope, model):
        inner = {"inner_loss": "squared_error"} if chosen and alike else {}
        fitting = {"ridge": inner | losses, **fitting}
        step = None if label.unit != "rating" else 1.0 if "step" in given else rating_step(label, levels)
        if step is not None:
            fitting = {"ordinal_ridge": {} if step == 1.0 else {"step": step}, **fitting}
    for name, found in fitting.items():
        if set(given) <= options[name]:
            return {"name": name, **found, **learner}
    raise ConfigError(f"No learner has all of the options {', '.join(f'learner.{k}' for k in given)} with this label "
                      "and model. Say which one is meant with 'learner.name'.")


def rating_step(label: Label, levels: Sequence[float] | None = None) -> float | None:
    """Returns the largest of `STEPS` on whose levels the label's bounds and `levels` lie; None if there is none."""
    values = np.append(np.asarray([] if levels is None else levels, np.float64), label.maximum)
    for step in STEPS:
        place = (values - label.minimum) / step
        # Labels are float32.
        if np.abs(place - np.round(place)).max() < 1e-3 and 1 <= round(place[-1]) <= _MOST_STEPS:
            return step
    return None


def _options(cls: type[Learner]) -> set[str]:
    return {p.name for p in inspect.signature(cls.__init__).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "name"}
