"""What a network predicts, noise or v: the same shapes either way, so it is looked for in more than one place."""

import logging
from typing import Final, Literal

from torch import Tensor

from stablediffusiond.engine.checkpoints.recognition import Recognised
from stablediffusiond.engine.checkpoints.weights import Weights

log = logging.getLogger(__name__)

PredictionType = Literal["epsilon", "v_prediction"]

#: Tensors without meaning by which trainers mark a model that predicts v, and one whose noise begins at no signal.
_MARK_V: Final = "v_pred"
_MARK_ZERO_SIGNAL: Final = "ztsnr"
#: What trainers write beside the tensors: https://github.com/Stability-AI/ModelSpec, and kohya's.
_NOTE: Final = "modelspec.prediction_type"
_NOTE_KOHYA: Final = "ss_v_parameterization"
#: The spread of ``Family.velocity`` above which ComfyUI takes a model for one that predicts v.
_SPREAD: Final = 0.09


def prediction_of(found: Recognised, weights: Weights, parameterization: str | None) -> PredictionType:
    """What the file's network predicts; ``parameterization`` is what its original config says, if there is one."""
    if parameterization is not None:
        return "v_prediction" if parameterization == "v" else "epsilon"
    if _MARK_V in found.header or _said_v(found):
        return "v_prediction"
    name = found.prefix + (found.family.velocity or "")
    if name not in found.header or found.header.notes.get(_NOTE) is not None:
        return "epsilon"
    predicted: PredictionType = "v_prediction" if _spread(weights.below(name)[name]) > _SPREAD else "epsilon"
    log.warning(
        "%s: whether it predicts noise or v is guessed from its weights: %s; where pictures are noise or grey, write "
        "[model] prediction_type", found.header.path.name, predicted,
    )  # fmt: skip
    return predicted


def begins_without_signal(found: Recognised) -> bool:
    return _MARK_ZERO_SIGNAL in found.header


def _said_v(found: Recognised) -> bool:
    said = found.header.notes.get(_NOTE, "").lower()
    kohya = found.header.notes.get(_NOTE_KOHYA, "").lower()
    return said in {"v", "v_prediction", "velocity"} or kohya == "true"


def _spread(tensor: Tensor) -> float:
    return float(tensor.float().std(unbiased=False))
