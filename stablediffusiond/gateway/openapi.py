"""``/openapi.json``: our own interface as OpenAPI 3.1 says it. OpenAI's and A1111's are theirs to describe."""

from functools import cache
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stablediffusiond import __version__
from stablediffusiond.gateway.store.records import ID
from stablediffusiond.messages.replies import Done, ImageFacts, Problem, Progress
from stablediffusiond.messages.schema import request_schema
from stablediffusiond.messages.status import ServiceStatus

Schema = dict[str, Any]

_JSON: Final = "application/json"
_TEXT: Final[Schema] = {"type": "string"}
_REF: Final = "#/components/schemas/"
#: What any path may answer, beside what it says itself.
_REFUSALS: Final = {
    "400": "A value that cannot be used; error.field names it",
    "401": "A token is asked for, and was not sent or is not known",
    "403": "A name, or a page, that may not ask; or a role that may not do this",
}
_STATES: Final = ("unconfirmed", "queued", "drawing", "done", "failed")


async def get_openapi(_: Request) -> Response:
    return JSONResponse(document())


@cache
def document() -> Schema:
    return {
        "openapi": "3.1.0",
        "info": {"title": "stablediffusion_gateway", "version": __version__},
        "paths": _paths(),
        "components": {
            "schemas": {name: _placed(schema, name) for name, schema in _schemas().items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _paths() -> Schema:
    return {**_all_jobs(), **_one_job(), **_service()}


def _all_jobs() -> Schema:
    key = _parameter("Idempotency-Key", "header", {"type": "string", "minLength": 1, "maxLength": 200})
    limit = _parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 100})
    before = _parameter("before", "query", _TEXT)
    body = {"anyOf": [{"$ref": f"{_REF}Request"}, {"$ref": f"{_REF}Requests"}]}
    taken = {
        "202": _answer("The broker has the job, or all of the list", "Taken"),
        "409": _error("The id, or the key, stands for another job"),
        "413": _error("The body is too large"),
        "429": _error("Too many jobs of this client are under way"),
        **_away(),
    }
    listed = {"200": _answer("Jobs", "Jobs")}
    return {
        "/jobs": {
            "post": _operation(
                "Draw", taken, [key], requestBody={"required": True, "content": {_JSON: {"schema": body}}}
            ),
            "get": _operation("The newest jobs first", listed, [limit, before]),
        }
    }


def _one_job() -> Schema:
    job_id = _parameter("id", "path", {"type": "string", "pattern": f"^{ID.pattern}$"})
    last = _parameter("Last-Event-ID", "header", {"type": "string", "pattern": r"^\d{1,60}(-end)?$"})
    leave = _parameter("on_disconnect", "query", {"enum": ["keep", "cancel"]})
    index = _parameter("index", "path", {"type": "integer", "minimum": 0})
    ended = {"202": _answer("It is being cancelled", "Job"), "204": {"description": "It is deleted"}}
    stream = {"description": "progress, preview, image, then done or failed", "content": {"text/event-stream": {}}}
    file = {"description": "The picture's file", "content": {"image/*": {}}}
    parts = {"206": {"description": "A part"}, "416": {"description": "No such part"}}
    events = {"200": stream, "204": {"description": "The reader has had all of them"}, **_gone()}
    cancel = "Cancel a job that is under way, delete one that has ended"
    return {
        "/jobs/{id}": {
            "get": _operation("A job", {"200": _answer("The job", "Job"), **_gone()}, [job_id]),
            "delete": _operation(cancel, {**ended, **_gone(), **_away()}, [job_id]),
        },
        "/jobs/{id}/events": {"get": _operation("The events of a job", events, [job_id, last, leave])},
        "/jobs/{id}/images/{index}": {
            "get": _operation("A picture", {"200": file, **parts, **_gone()}, [job_id, index])
        },
    }


def _service() -> Schema:
    health = {"200": _answer("So it is", "Health"), "503": _answer("It is not", "Health")}
    return {
        "/status": {"get": _operation("The service", {"200": _answer("Its status", "Status"), **_away()}, [])},
        "/healthz": {"get": _operation("Whether jobs are taken and pictures come", health, [])},
    }


def _with_webhook(schema: Schema) -> Schema:
    webhook = {"type": ["string", "null"], "description": "An address to which the end of the job is posted"}
    return {**schema, "properties": {**schema["properties"], "webhook": webhook}}


def _gone() -> Schema:
    return {"404": _error("No such job, or none of this client's")}


def _away() -> Schema:
    return {"503": _error("The broker is away, or a queue or the store full: again after Retry-After seconds")}


def _schemas() -> Schema:
    image = ImageFacts.model_json_schema()
    properties = {name: each for name, each in image["properties"].items() if name not in {"id", "count"}}
    properties |= {"content_type": _TEXT, "bytes": {"type": "integer"}, "url": {"type": "string", "format": "uri"}}
    done = Done.model_json_schema()["properties"]
    progress = {name: each for name, each in Progress.model_json_schema()["properties"].items() if name != "id"}
    job = {
        "id": _TEXT,
        "state": {"enum": list(_STATES)},
        "created_at": {"type": "string", "format": "date-time"},
        "request": {"type": "object", "description": "What was asked for; pictures as their SHA-256"},
        "warnings": {"type": "array", "items": _TEXT},
        "images": {"type": "array", "items": {"$ref": f"{_REF}Image"}},
        "events": _TEXT,
    }
    later = {name: done[name] for name in ("queued_seconds", "engine_seconds", "total_seconds")}
    later |= {"progress": {"type": "object", "properties": progress}, "error": {"$ref": f"{_REF}Problem"}}
    refusal = {"type": "object", "required": ["code", "message"], "properties": {"code": _TEXT, "message": _TEXT}}
    refusal["properties"] = {"code": _TEXT, "message": _TEXT, "field": _TEXT}
    return {
        "Request": _with_webhook(request_schema()),
        "Requests": {"type": "array", "items": {"$ref": f"{_REF}Request"}, "minItems": 1, "maxItems": 100},
        "Taken": {"anyOf": [{"$ref": f"{_REF}Job"}, {"$ref": f"{_REF}Jobs"}]},
        "Image": {"type": "object", "properties": properties, "required": ["index", "seed", "url"]},
        "Job": {"type": "object", "properties": {**job, **later}, "required": list(job)},
        "Jobs": _object({"jobs": {"type": "array", "items": {"$ref": f"{_REF}Job"}}}),
        "Problem": Problem.model_json_schema(),
        "Error": _object({"error": refusal}),
        "Status": ServiceStatus.model_json_schema(),
        "Health": _object({"healthy": {"type": "boolean"}, "troubles": {"type": "array", "items": _TEXT}}),
    }


def _operation(summary: str, answers: Schema, parameters: list[Schema], **more: object) -> Schema:
    refusals = {status: _error(what) for status, what in _REFUSALS.items()}
    return {"summary": summary, "parameters": parameters, "responses": {**refusals, **answers}, **more}


def _parameter(name: str, place: str, schema: Schema) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _answer(description: str, schema: str) -> Schema:
    return {"description": description, "content": {_JSON: {"schema": {"$ref": _REF + schema}}}}


def _error(description: str) -> Schema:
    return _answer(description, "Error")


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _placed(schema: Schema, name: str) -> Schema:
    """``schema`` as a part of the document, with its own definitions found where they are now."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            at = f"{_REF}{name}/$defs/"
            return {
                key: str(each).replace("#/$defs/", at) if key == "$ref" else moved(each) for key, each in value.items()
            }
        return [moved(each) for each in value] if isinstance(value, list) else value

    placed: Schema = moved({key: value for key, value in schema.items() if key != "$schema"})
    return placed


ROUTES: Final = [Route("/openapi.json", get_openapi, methods=["GET"])]
