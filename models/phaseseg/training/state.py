"""The state of an unfinished training on disk, from which it can be continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phaseseg.display import option

if TYPE_CHECKING:
    from torch import Tensor

_STATE_FORMAT = "1"


class TrainingState:
    """The state saved after every epoch: one safetensors file with JSON metadata.

    Parameters
    ----------
    path : the file
    settings : everything that the result depends on, plain values; a run goes on only with the same
    resume : whether to go on where the file says; without a file training starts from the beginning

    Raises
    ------
    ValueError
        If there is a state that must not be overwritten, or that of another training.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.found: tuple[dict[str, Any], dict[str, Tensor]] | None = None
        self.written = ""
        if not path.exists():
            return
        if not resume:
            raise ValueError(
                f"{path}: the state of an unfinished training is in the way. Continue it with "
                f"{option('resume', True)}, or delete the file."
            )
        self.found = self._read()
        self.written = self.found[0]["sentence"]

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            content = json.loads(metadata["training"])
            if metadata["format"] != _STATE_FORMAT:
                raise ValueError
        except (SafetensorError, KeyError, ValueError):
            raise ValueError(
                f"{self.path}: this is not a training state that can be continued. Delete the file and "
                "start again."
            ) from None
        before = content["settings"]
        for name in {**before, **self.settings}:
            if before.get(name) != self.settings.get(name):
                raise ValueError(
                    f"{self.path}: the unfinished training had another {name} "
                    f"({_short(before.get(name))}, now {_short(self.settings.get(name))}). Give the same "
                    "data and options, or delete the file to start again."
                )
        return content, tensors

    def save(self, content: Mapping[str, Any], tensors: Mapping[str, Tensor], sentence: str) -> None:
        """Replace the file; after an interruption it is complete or as before."""
        from safetensors.torch import save

        from phaseseg.io import atomic_output

        text = json.dumps({**content, "settings": self.settings, "sentence": sentence})
        raw = save(dict(tensors), metadata={"format": _STATE_FORMAT, "training": text})
        with atomic_output(self.path) as temporary:
            temporary.write_bytes(raw)
        self.written = sentence

    def delete(self) -> None:
        """Delete the state of a finished training."""
        self.path.unlink(missing_ok=True)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
