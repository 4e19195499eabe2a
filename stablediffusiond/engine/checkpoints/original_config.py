"""The ``.yaml`` of the original programs that may lie beside a file: what it says goes before our own configs."""

from pathlib import Path
from typing import Any, Final

from diffusers.loaders.single_file_utils import (
    create_unet_diffusers_config_from_ldm,
    create_vae_diffusers_config_from_ldm,
    fetch_original_config,
)

from stablediffusiond.engine.checkpoints.components import Config
from stablediffusiond.errors import ModelUnavailable

#: What such a file does not say, and diffusers fills in.
_FILLED_IN: Final = ("sample_size",)


class OriginalConfig:
    """Says nothing where there is no such file."""

    def __init__(self, weights: Path) -> None:
        found = [each for suffix in (".yaml", ".yml") if (each := weights.with_suffix(suffix)).is_file()]
        self._file = found[0] if found else None
        self._said: Any = None if self._file is None else self._read(self._file)

    @property
    def parameterization(self) -> str | None:
        """``v`` or ``eps``."""
        if self._said is None:
            return None
        parameters = self._said["model"]["params"]
        nested = parameters.get("denoiser_config", {}).get("params", {}).get("scaling_config", {}).get("target", "")
        return "v" if "VScaling" in nested else parameters.get("parameterization", "eps")

    def network(self) -> Config:
        return self._mapped(create_unet_diffusers_config_from_ldm)

    def vae(self) -> Config:
        return self._mapped(create_vae_diffusers_config_from_ldm)

    def _mapped(self, map_config: Any) -> Config:
        if self._said is None:
            return {}
        try:
            said: Config = map_config(self._said, checkpoint={})
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelUnavailable(f"{self._file}: it lacks {error}, or has it in another form") from None
        return {key: value for key, value in said.items() if key not in _FILLED_IN and value is not None}

    def _read(self, file: Path) -> Any:
        try:
            said = fetch_original_config(str(file))
            said["model"]["params"].keys()
        except Exception as error:  # noqa: BLE001 (PyYAML's, which is diffusers' dependency and not ours)
            said_so = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelUnavailable(f"{file} is no config of an original program: {said_so}") from None
        return said
