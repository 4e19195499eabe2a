"""The JSON Schemas of all messages: ``python -m stablediffusiond.messages.schema docs/schema`` writes them."""

import json
import sys
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from stablediffusiond.messages import a1111, seeds
from stablediffusiond.messages.aliases import ALIASES, IGNORED
from stablediffusiond.messages.dead_letter import DeadLetterFacts
from stablediffusiond.messages.replies import Cancel, Done, Failed, ImageFacts, PreviewFacts, Progress
from stablediffusiond.messages.request import BOOLEANS, Request
from stablediffusiond.messages.status import Ask, ServiceStatus, WorkerStatus

Schema = dict[str, object]

_OTHERS: Final[dict[str, type[BaseModel]]] = {
    "image": ImageFacts,
    "done": Done,
    "failed": Failed,
    "progress": Progress,
    "preview": PreviewFacts,
    "cancel": Cancel,
    "ask": Ask,
    "status": WorkerStatus,
    "service": ServiceStatus,
    "dead_letter": DeadLetterFacts,
}


_LORAS: Final = "LoRAs, beside those that the prompt names as <lora:name:0.8>: docs/protocol.md"
_CONTROL: Final = "ControlNets, a list of objects with model, image, scale, start, end, preprocessor: docs/protocol.md"
_IP_ADAPTER: Final = "IP-Adapters, a list of objects with name, image, scale: docs/protocol.md"
_HIRES: Final = "txt2img: a second pass at a larger size, as an object or as its scale: docs/protocol.md"
#: What ComfyUI's and AI Horde's users write.
_OF_OTHERS: Final[dict[str, Schema]] = {
    "stop_at_clip_layer": {"type": ["integer", "string", "null"], "description": "clip_skip, with a minus"},
    "params": {"type": ["object", "null"], "description": "AI Horde's: its fields, beside the others"},
}
#: It alone needs no prompt.
_AN_UPSCALE: Final[Schema] = {"required": ["type"], "properties": {"type": {"const": "upscale"}}}
_FORMATS: Final = "What kind of file each picture is: png, jpeg (jpg), webp or webp-lossless"
_FILLS: Final = "inpaint: what lies under the mask before it is drawn: original, neighbours, noise, plain"


def request_schema() -> Schema:
    """The schema of a request in every spelling that the daemon takes, numbers as text included."""
    schema = Request.model_json_schema()
    properties: dict[str, Schema] = dict(schema["properties"])
    properties["seed"] |= {"minimum": -1, "maximum": seeds.SEEDS - 1}
    del properties["seed"]["default"], properties["seed"]["exclusiveMaximum"]
    properties["subseed"] = {**properties["seed"], "description": str(properties["subseed"]["description"])}
    properties |= {name: _nullable(_also_as_text(field)) for name, field in properties.items() if name != "prompt"}
    properties["image"] = {"type": ["string", "null"], "description": str(properties["image"]["description"])}
    properties["loras"] = {"type": ["array", "object", "string", "null"], "description": _LORAS}
    properties["ip_adapter"] = {"type": ["array", "object", "null"], "description": _IP_ADAPTER}
    properties["control"] = {"type": ["array", "object", "null"], "description": _CONTROL}
    properties["hires"] = {"type": ["object", "number", "boolean", "string", "null"], "description": _HIRES}
    properties["scale"] = {"description": "The same as guidance_scale; in an upscale, as upscale_by"}
    for name in BOOLEANS:
        properties[name] = {**properties[name], "type": ["boolean", "integer", "string", "null"]}
    properties["format"] = {"type": ["string", "null"], "default": "png", "description": _FORMATS}
    properties["mask_fill"] = {"type": ["string", "integer", "null"], "description": _FILLS}
    for name, others in ALIASES.items():
        for other in others:
            if "." not in other and other not in properties:
                properties[other] = {**properties[name], "description": f"The same as {name}"}
    # What A1111's clients send where they leave it open, and where there is no image.
    properties["denoising_strength"] = {"description": "The same as strength; only looked at beside an image"}
    name_or_nothing: Schema = {"type": ["string", "number", "null"], "description": "The same as sampler"}
    properties |= dict.fromkeys(ALIASES["sampler"], name_or_nothing)
    properties |= _OF_OTHERS
    properties["n_iter"] = {"type": ["integer", "string", "null"], "description": "Multiplies count"}
    properties["plms"] = {"type": ["boolean", "string", "null"], "description": "The same as sampler PLMS"}
    properties["init_images"] = {
        "type": ["array", "null"], "items": {"type": "string"}, "maxItems": 1, "description": "One image"
    }  # fmt: skip
    properties["models"] = {"type": ["array", "null"], "items": {"type": "string"}, "description": "The first is model"}
    for name, handling in a1111.FIELDS.items():
        properties.setdefault(name, {"description": _handling(handling)})
    for name in sorted(IGNORED):
        properties[name] = {"description": "Accepted and ignored, with a warning"}
    del schema["required"]
    schema["anyOf"] = [{"required": ["prompt"]}, *({"required": [other]} for other in ALIASES["prompt"]), _AN_UPSCALE]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "properties": properties}


def _handling(handling: a1111.Handling) -> str:
    """How a field that only A1111 has is handled."""
    match handling:
        case a1111.Refused(what=what):
            return f"A1111's: asks for {what}; refused unless it asks for nothing"
        case a1111.DependsOn(field=field):
            return f"A1111's: looked at only beside {field}, which is refused; ignored, with a warning"
        case a1111.OfMask(what=what):
            return f"A1111's: looked at only beside a mask; asks for {what}, and is refused unless it asks for nothing"
        case a1111.BesideMask(meaning=meaning) | a1111.BesideHires(meaning=meaning):
            beside = "a mask" if isinstance(handling, a1111.BesideMask) else "enable_hr"
            return f"A1111's: beside {beside}, {meaning}; else ignored, with a warning"
        case a1111.Ignored(why=why):
            return f"A1111's: ignored, with a warning: {why}"
        case a1111.Used(meaning=meaning):
            return f"A1111's: {meaning}"


def _nullable(field: Schema) -> Schema:
    """What is null is absent."""
    choices, names = field.get("anyOf"), field.get("enum")
    if isinstance(choices, list):
        return field if {"type": "null"} in choices else {**field, "anyOf": [*choices, {"type": "null"}]}
    nullable: Schema = {**field, "type": [field["type"], "null"]}
    return {**nullable, "enum": [*names, None]} if isinstance(names, list) else nullable


def _also_as_text(field: Schema) -> Schema:
    """A number may come as text; its bounds then are the daemon's to check."""
    choices = field.get("anyOf")
    kinds = [choice.get("type") for choice in choices] if isinstance(choices, list) else [field.get("type")]
    if not {"integer", "number"} & set(kinds):
        return field
    bare = {key: value for key, value in field.items() if key in {"description", "default", "title"}}
    number = {key: value for key, value in field.items() if key not in {*bare, "anyOf"}}
    alternatives = choices if isinstance(choices, list) else [number]
    extra = [{"type": "string"}] + ([] if "null" in kinds else [{"type": "null"}])
    return {**bare, "anyOf": [*alternatives, *extra]}


def schemas() -> dict[str, Schema]:
    """File name -> schema."""
    made = {f"{name}.schema.json": model.model_json_schema() for name, model in _OTHERS.items()}
    return {"request.schema.json": request_schema(), **made}


def text(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    folder = Path(arguments[0]) if arguments else Path("docs/schema")
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (folder / name).write_text(text(schema), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
