"""What comes with a model, beside it: the built-in one has a LoRA and a ControlNet, which need no settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stablediffusiond.engine.checkpoints import source

#: Not in the model's own folder, in which diffusers' layout has nothing of this kind.
FOLDER: Final = source.BUILT_IN.with_name("beside_doodle")


@dataclass(frozen=True)
class BesideModel:
    """Folders of files that requests may name, beside those of the settings."""

    loras: Path | None = None
    controlnets: Path | None = None


NOTHING_BESIDE: Final = BesideModel()


def beside_model(name: str) -> BesideModel:
    """What comes with the model that ``[model] name`` is."""
    if name == source.BUILT_IN_NAME:
        return BesideModel(FOLDER / "loras", FOLDER / "controlnets")
    return NOTHING_BESIDE
