"""Errors as HTTP says them: a status, and JSON in the form of the interface that was asked."""

from dataclasses import dataclass
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stablediffusiond.errors import BrokerError, JobError, ReplyCode, UnreadableMessage
from stablediffusiond.gateway.errors import HttpError

_RETRY_AFTER_SECONDS: Final = 5
_BY_REPLY_CODE: Final[dict[ReplyCode, int]] = {
    "invalid_request": 400, "too_large": 413, "expired": 504, "cancelled": 409, "out_of_memory": 507,
    "model_error": 500, "crashed": 500,
}  # fmt: skip
_OPENAI_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
#: Of the router's own refusals: their code, and what to do.
_BY_ROUTER: Final = {
    404: ("not_found", "there is nothing here; /openapi.json says what there is"),
    405: ("method_not_allowed", "this path does not take that method; /openapi.json says which it takes"),
}


@dataclass(frozen=True)
class Problem:
    """What went wrong, and what to do."""

    status: int
    code: str
    message: str
    field: str | None = None


def of(error: Exception) -> Problem:
    """The problem that an error of ours, or of the router's, is."""
    problem = Problem(500, "server_error", "a bug; the log of stablediffusion_gateway has more")
    match error:
        case HttpError():
            problem = Problem(error.status, error.code, str(error))
        case JobError():
            problem = Problem(_BY_REPLY_CODE[error.code], error.code, str(error), error.field)
        case UnreadableMessage():
            problem = Problem(400, "invalid_request", str(error))
        case BrokerError():
            problem = Problem(503, "unavailable", str(error))
        case HTTPException():
            code, message = _BY_ROUTER.get(error.status_code, ("invalid_request", str(error.detail)))
            problem = Problem(error.status_code, code, message)
    return problem


def response(path: str, error: Exception) -> Response:
    """The answer to a request for ``path``."""
    problem = of(error)
    answer = JSONResponse(_form(path, problem), problem.status)
    if problem.status in {429, 503}:
        answer.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
    if problem.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer


async def answer(request: Request, error: Exception) -> Response:
    """As Starlette wants it."""
    return response(request.url.path, error)


def openai_form(problem: Problem) -> dict[str, Any]:
    """https://platform.openai.com/docs/guides/error-codes"""
    kind = _OPENAI_TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error")
    return {"error": {"message": problem.message, "type": kind, "param": problem.field, "code": problem.code}}


def _form(path: str, problem: Problem) -> dict[str, Any]:
    if path.startswith("/v1/"):
        return openai_form(problem)
    if path.startswith("/sdapi/"):  # as FastAPI, and A1111 on it
        return {"error": problem.code, "detail": problem.message, "body": "", "errors": problem.message}
    field = {"field": problem.field} if problem.field else {}
    return {"error": {"code": problem.code, "message": problem.message, **field}}
