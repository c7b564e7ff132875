"""What every modifier does: it refuses misspelt keywords and says its name in errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from ovito.pipeline import ModifierInterface
from traits.api import HasTraits


class CheckedModifier(ModifierInterface):
    """Refuses a misspelt keyword, which OVITO would silently take for a new attribute."""

    def __init__(self, **parameters: Any) -> None:
        known = self.parameters()
        looks = [name for name in cast(HasTraits, self).trait_names() if name.endswith("_vis")]
        unknown = [name for name in parameters if name not in known and name not in looks]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no parameter {', '.join(unknown)}; "
                f"the parameters are {', '.join(known)}."
            )
        super().__init__(**parameters)

    def parameters(self) -> list[str]:
        """Names of the parameters, in the order in which they are shown."""
        itself = cast(HasTraits, self)
        return [name for name in itself.trait_names() if itself.trait(name).label]


@contextmanager
def told(name: str, remedy: str) -> Iterator[None]:
    """Put the name of the modifier before what it says of an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except MemoryError as error:
        raise MemoryError(f"{name}: the memory is not enough; {remedy}. {error}") from error
    except ImportError as error:
        raise ImportError(
            f"{name}: {error}; install everything with: pip install ovito-phaseseg[ovito]"
        ) from error
    except RuntimeError as error:
        raise RuntimeError(f"{name}: {error}") from error
