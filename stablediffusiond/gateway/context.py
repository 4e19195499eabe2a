"""What the handlers of requests have in common."""

from dataclasses import dataclass, field

from starlette.requests import Request

from stablediffusiond.gateway.a1111.iterations import Drawings
from stablediffusiond.gateway.a1111.options import Options
from stablediffusiond.gateway.access import Access, Client
from stablediffusiond.gateway.errors import NotFound
from stablediffusiond.gateway.jobs import Job, Jobs
from stablediffusiond.gateway.links import Links
from stablediffusiond.gateway.queue_client import QueueClient
from stablediffusiond.gateway.replies import Replies
from stablediffusiond.gateway.service_view import ServiceView
from stablediffusiond.gateway.submission import Submission
from stablediffusiond.settings import GatewaySettings


@dataclass
class Context:
    """One gateway."""

    settings: GatewaySettings
    access: Access
    jobs: Jobs
    replies: Replies
    queue: QueueClient
    submission: Submission
    links: Links
    options: Options = field(default_factory=Options)
    drawings: Drawings = field(default_factory=Drawings)
    service: ServiceView = field(init=False)

    def __post_init__(self) -> None:
        self.service = ServiceView(self.queue)

    def base(self, request: Request) -> str:
        """What addresses begin with for who has sent ``request``."""
        return self.settings.public_url or f"{request.url.scheme}://{request.headers['host']}"

    async def job(self, request: Request) -> Job:
        """The job that the path names. Raises NotFound, also where it is somebody else's."""
        job = await self.jobs.get(request.path_params["id"])
        if job is None or not client_of(request).may_see(job.record.owner):
            raise NotFound("there is no such job; jobs are kept for a time: [gateway] keep_days and keep_bytes")
        return job


def context_of(request: Request) -> Context:
    found: Context = request.app.state.context
    return found


def client_of(request: Request) -> Client:
    found: Client = request.state.client
    return found
