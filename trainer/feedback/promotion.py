"""Labels of versions in models.config: canary, stable, and the way back."""

import dataclasses
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from export.verify import require_passed, verify
from tfmeta.config import require
from tfmeta.errors import ServingError, suggest
from tfmeta.io import filesystem
from tfmeta.serving.model_config_file import parse_model_config, read_model_config_text
from tfmeta.serving.model_versions import list_versions

CANARY, STABLE, PREVIOUS = "canary", "stable", "previous"
LABELS = (CANARY, STABLE)


@dataclasses.dataclass(frozen=True)
class Promotion:
    """One edit of a models.config.

    Attributes:
      config, model: the file and the name in it.
      version: that was promoted, or that clients go back to.
      label: that was asked for.
      action: `labelled`, `listed` (the server must have loaded the version before the label can move: promote again),
        `rolled_back`, or `unchanged`.
      labels: label -> version afterwards.
      versions: that the server is to load afterwards; None where the policy says `all`.
    """

    config: str
    model: str
    version: int
    label: str
    action: str
    labels: dict[str, int]
    versions: tuple[int, ...] | None

    def describe(self) -> str:
        """Returns one line for people."""
        where = f"'{self.model}' in {self.config}"
        labels = ", ".join(f"{name} {version}" for name, version in sorted(self.labels.items())) or "no labels"
        return {"labelled": f"Version {self.version} is {self.label} of {where} ({labels}).",
                "listed": f"Version {self.version} is listed in {where}; label '{self.label}' can move once the server "
                          f"has loaded it: promote again, or name the server ({labels}).",
                "rolled_back": f"Label '{self.label}' is back at version {self.version} of {where} ({labels}).",
                "unchanged": f"Version {self.version} is {self.label} of {where} already ({labels})."}[self.action]


def promote(config: str, *, model: str, version: int, label: str, model_base: str | None = None,
            skip_canary: bool = False, check: bool = True) -> Promotion:
    """Gives a version a label, by one atomic edit of a models.config.

    Servers refuse to move a label to a version that they have not loaded. So a version that the file does not list
    is listed first, and the label moves with the second call. A label that nobody has is given at once, which a server
    started with `--allow_version_labels_for_unavailable_models` takes. A version that becomes stable leaves the one
    before under the label `previous`, loaded; what has lost its last label is no longer listed.

    Args:
      config: a ModelServerConfig in text format; comments but those at its head are lost.
      model: name in the file.
      version: to promote.
      label: `canary` or `stable`; a version becomes stable after it has been the canary.
      model_base: where the versions lie for this process; default the file's `base_path`.
      skip_canary: allow a version to become stable at once.
      check: verify the version in a second process.

    Raises:
      ConfigError: on another label.
      ServingError: if the file has no such model, or the version is absent or was no canary.
      ExportError: if the version does not verify.
    """
    require(label in LABELS, "label", f"one of {', '.join(LABELS)}", label)
    file = _ConfigFile(config, model)
    _require_version(file, version, model_base=model_base, check=check)
    labels = file.labels()
    if labels.get(label) == version:
        return file.result(version, label, "unchanged")
    if label == STABLE and STABLE in labels and labels.get(CANARY) != version and not skip_canary:
        raise ServingError(f"Version {version} of '{model}' requires the label canary before it becomes stable; canary "
                           f"is {labels.get(CANARY, 'nobody')}. Promote it to canary first, or skip that on purpose.")
    if label in labels and not file.listed(version):
        file.list(version)
        file.write()
        return file.result(version, label, "listed")
    after = {**labels, label: version}
    if label == STABLE and STABLE in labels:
        after[PREVIOUS] = labels[STABLE]
    file.relabel(after)
    file.write()
    return file.result(version, label, "labelled")


def roll_back(config: str, *, model: str, label: str = STABLE, version: int | None = None) -> Promotion:
    """Takes a promotion back, by one atomic edit.

    `stable` returns to the version before (label `previous`), which is still loaded; `canary` returns to the stable
    version. The version that was withdrawn is no longer listed.

    Args:
      config, model: the file and the name in it.
      label: `stable` or `canary`.
      version: to return to, instead of those above.

    Raises:
      ConfigError: on another label.
      ServingError: if there is nothing to go back to, or the server does not have it loaded.
    """
    require(label in LABELS, "label", f"one of {', '.join(LABELS)}", label)
    file = _ConfigFile(config, model)
    labels = file.labels()
    target = version if version is not None else labels.get(PREVIOUS if label == STABLE else STABLE)
    if target is None or label not in labels:
        raise ServingError(f"Rolling '{label}' of '{model}' back in '{config}' requires a version to return to; the "
                           f"labels are {labels or 'none'}. Name a version with --version.")
    if not file.listed(target):
        raise ServingError(f"Rolling back requires a version that the server has loaded; '{config}' lists "
                           f"{', '.join(map(str, file.versions() or ())) or 'none'}, received {target}.")
    if labels[label] == target:
        return file.result(target, label, "unchanged")
    withdrawn = labels[label]
    after = {name: number for name, number in labels.items() if not (label == STABLE and name == PREVIOUS)}
    # Nobody goes on with what was withdrawn, whatever name they call it by.
    after = {name: target if number == withdrawn else number for name, number in after.items()}
    file.relabel(after)
    file.write()
    return file.result(target, label, "rolled_back")


class _ConfigFile:
    """One model's entry in a models.config, and its edits.

    Args:
      path: of the file.
      model: name of the entry.

    Raises:
      ServingError: if the file is malformed or lacks the model.
    """

    def __init__(self, path: str, model: str):
        self._path, self._name = path, model
        self._text = read_model_config_text(path)
        parse_model_config(self._text, path=path)
        self._message = text_format.Parse(self._text, model_server_config_pb2.ModelServerConfig())
        entries = {e.name: e for e in self._message.model_config_list.config}
        if model not in entries:
            raise ServingError(f"Model configuration '{path}' has no model '{model}'.{suggest(model, entries)}")
        self._entry = entries[model]

    @property
    def base_path(self) -> str:
        return self._entry.base_path

    def labels(self) -> dict[str, int]:
        return dict(self._entry.version_labels)

    def versions(self) -> tuple[int, ...] | None:
        """Versions that the server is to load, ascending; None where it loads all."""
        policy = self._entry.model_version_policy
        if policy.WhichOneof("policy_choice") == "all":
            return None
        return tuple(sorted(policy.specific.versions))

    def listed(self, version: int) -> bool:
        versions = self.versions()
        return versions is None or version in versions

    def list(self, version: int) -> None:
        """Has the server load a version; a policy `latest` becomes the list of what has a label."""
        self._set({*(self.versions() or ()), *self.labels().values(), version})

    def relabel(self, labels: dict[str, int]) -> None:
        """Replaces the labels; versions that have lost their last one are no longer listed."""
        before = set(self.labels().values())
        self._entry.version_labels.clear()
        self._entry.version_labels.update(labels)
        if self.versions() is not None:
            self._set(set(self.versions()) - before | set(labels.values()))

    def _set(self, versions: set[int]) -> None:
        if self.versions() is not None:
            self._entry.model_version_policy.specific.versions[:] = sorted(versions)

    def write(self) -> None:
        """Replaces the file whole.

        Raises:
          ServingError: if somebody else has changed it since it was read.
        """
        head = []
        for line in self._text.splitlines():
            if not line.startswith("#"):
                break
            head.append(line)
        text = "\n".join([*head, text_format.MessageToString(self._message)])
        parse_model_config(text, path=self._path)
        if read_model_config_text(self._path) != self._text:
            raise ServingError(f"Model configuration '{self._path}' was changed by somebody else meanwhile; nothing "
                               "was written. Look at it and try again.")
        filesystem.write_text(self._path, text)

    def result(self, version: int, label: str, action: str) -> Promotion:
        return Promotion(config=self._path, model=self._name, version=version, label=label, action=action,
                         labels=self.labels(), versions=self.versions())


def _require_version(file: _ConfigFile, version: Any, *, model_base: str | None, check: bool) -> None:
    base = model_base or file.base_path
    known = list_versions(base)
    if version not in known:
        raise ServingError(f"'{base}' has no version {version}, only {', '.join(map(str, known)) or 'none'}. Export it "
                           "first, or say with --model-base where the versions lie.")
    if check:
        require_passed(known[version], verify(known[version]))
