"""The part of every card that describes the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from phaseseg.training.curves import Member
from phaseseg.training.settings import Settings
from phaseseg.version import __version__


def training_card(
    settings: Settings,
    members: Sequence[Member],
    validation: Mapping[str, Any],
    *,
    columns: Mapping[str, Sequence[Any]] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Settings, versions, and the result of each member.

    validation : what the members reach on the validation data
    columns : more columns of the table of members, before that of the seconds
    others : settings of the family alone
    """
    import torch

    more = columns or {}
    names = ["seed", "epochs", "best epoch", "loss", "validation loss", "validation error", *more, "s"]
    rows = [
        [m.seed, len(m.epochs), m.best_epoch, m.best.loss, m.best.validation_loss, m.best.validation_error,
         *(values[k] for values in more.values()), round(m.seconds, 1)]
        for k, m in enumerate(members)
    ]  # fmt: skip
    return {
        **{key: value for key, value in asdict(settings).items() if key != "seeds"},
        **others,
        "best_epochs": [member.best_epoch for member in members],
        "seconds": round(sum(member.seconds for member in members), 1),
        "versions": {"phaseseg": __version__, "torch": torch.__version__},
        "members": {"columns": names, "rows": rows},
        "validation": dict(validation),
    }


def members_sentence(card: Mapping[str, Any]) -> str:
    """A sentence on the number of members, their training time and the epochs of their weights."""
    training = card["training"]
    rows = training["members"]["rows"]
    plural, kept = "s" * (len(rows) > 1), ", ".join(str(row[2]) for row in rows)
    return f"{len(rows)} member{plural} in {training['seconds']:,.0f} s; kept epoch{plural} {kept}."


def value_range(values: Sequence[float]) -> list[float]:
    """Lowest and highest value, as `Checkpoint.ranges` has them."""
    numbers = [float(value) for value in values]
    return [min(numbers), max(numbers)]
