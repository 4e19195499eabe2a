"""The application: its paths, and what stands around them."""

from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.gateway import jobs_api, openapi, page_files, problems, service_api
from stablediffusiond.gateway.a1111 import routes as a1111
from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.guard import Guard
from stablediffusiond.gateway.openai import routes as openai

_INTERFACES: Final = (jobs_api, service_api, openai, a1111, openapi, page_files)


def make_app(context: Context) -> Starlette:
    app = Starlette(
        routes=[route for module in _INTERFACES for route in module.ROUTES],
        middleware=[Middleware(Guard, context=context)],
        exception_handlers={
            StableDiffusiondError: problems.answer,
            HTTPException: problems.answer,
            Exception: problems.answer,
        },
    )
    app.state.context = context
    return app
