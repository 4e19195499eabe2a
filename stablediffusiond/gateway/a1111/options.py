"""``/sdapi/v1/options``: what a client sets once, for all that it asks for later; kept for each client, in memory."""

from collections.abc import Mapping
from typing import Any, Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, shown

#: Option -> its value that asks for nothing. Others are taken and have no effect.
_KEPT: Final[dict[str, object]] = {"sd_model_checkpoint": None, "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1}


class Options:
    def __init__(self) -> None:
        self._of: dict[str, dict[str, object]] = {}

    def shown(self, client: str, model: str) -> dict[str, Any]:
        """Those of ``client``, and the others as A1111 has them at first."""
        others = {"samples_format": "png", "save_images_add_number": True, "live_previews_enable": True}
        return {**others, **_KEPT, "sd_model_checkpoint": model, "sd_checkpoint_hash": None, **self._of.get(client, {})}

    def set(self, client: str, values: Mapping[str, object], models: list[str]) -> None:
        """Keep ``values`` for ``client``. Raises InvalidRequest for a model that nobody has."""
        kept = {name: value for name, value in values.items() if name in _KEPT}
        model = kept.get("sd_model_checkpoint")
        if model and model not in models:
            known = ", ".join(models)
            raise InvalidRequest(f"there is no model {shown(model)}; known: {known}", field="sd_model_checkpoint")
        self._of[client] = {**self._of.get(client, {}), **kept}

    def applied(self, client: str, fields: Body) -> Body:
        """``fields`` of a request with the options of ``client``, where it does not say otherwise."""
        kept = {name: value for name, value in self._of.get(client, {}).items() if value not in {_KEPT[name], ""}}
        own = fields.get("override_settings") or {}
        if not kept or not isinstance(own, dict):
            return fields
        return {**fields, "override_settings": {**kept, **own}}
