import json
from pathlib import Path

import jsonschema
import pytest

from stablediffusiond.messages import schema
from stablediffusiond.messages.a1111 import FIELDS
from stablediffusiond.messages.aliases import ALIASES, IGNORED, UNFOLDED
from stablediffusiond.messages.replies import Done, ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import ServiceStatus, WorkerStatus

CHECKED_IN = Path(__file__).parents[2] / "docs/schema"


def test_the_checked_in_schemas_are_what_the_code_says() -> None:
    """Else: python -m stablediffusiond.messages.schema docs/schema."""
    made = {name: schema.text(each) for name, each in schema.schemas().items()}
    assert made == {file.name: file.read_text("utf-8") for file in CHECKED_IN.glob("*.json")}


def test_the_command_writes_them(tmp_path: Path) -> None:
    assert schema.main([str(tmp_path / "new")]) == 0
    assert len(list((tmp_path / "new").iterdir())) == len(schema.schemas())


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "cat"},
        {"prompt": "cat", "seed": "42", "ddim_steps": "20", "W": 512, "plms": "true", "C": 4},
        {"prompt": "cat", "output_format": "JPG", "quality": "80", "metadata": "false"},
        {"prompt": "cat", "seed": -1, "width": None, "init_images": ["aW1hZ2U="], "denoising_strength": 0.5},
    ],
)
def test_the_schema_takes_what_the_daemon_takes(body: dict[str, object]) -> None:
    jsonschema.validate(body, schema.request_schema())


@pytest.mark.parametrize("file", sorted((Path(__file__).parent / "a1111").glob("*.json")), ids=lambda file: file.stem)
def test_the_schema_takes_what_clients_of_a1111_send(file: Path) -> None:
    jsonschema.validate(json.loads(file.read_text("utf-8")), schema.request_schema())


@pytest.mark.parametrize("name", sorted({*Request.model_fields} - {"prompt"}))
def test_the_schema_takes_null_for_absent(name: str) -> None:
    jsonschema.validate({"prompt": "cat", name: None}, schema.request_schema())


@pytest.mark.parametrize(
    "body", [{}, {"prompt": "cat", "stepz": 3}, {"prompt": "cat", "steps": 0}, {"prompt": ["cat"]}]
)
def test_the_schema_refuses_what_the_daemon_refuses(body: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, schema.request_schema())


def test_every_spelling_stands_in_the_schema() -> None:
    properties = schema.request_schema()["properties"]
    assert isinstance(properties, dict)
    spellings = {alias for others in ALIASES.values() for alias in others if "." not in alias}
    assert spellings | IGNORED | set(FIELDS) | set(UNFOLDED) <= set(properties)


def test_golden_replies_are_valid() -> None:
    golden = Path(__file__).parent / "golden"
    jsonschema.validate(json.loads((golden / "done.json").read_text("utf-8"))["body"], Done.model_json_schema())
    jsonschema.validate(
        json.loads((golden / "status.json").read_text("utf-8"))["body"], WorkerStatus.model_json_schema()
    )
    jsonschema.validate(json.loads((golden / "service.json").read_text("utf-8")), ServiceStatus.model_json_schema())
    headers = json.loads((golden / "image.json").read_text("utf-8"))["headers"]
    facts = ImageFacts.model_validate({**headers, "type": headers["job_type"]})
    assert (facts.guidance_scale, facts.seed) == (7.5, 43)
