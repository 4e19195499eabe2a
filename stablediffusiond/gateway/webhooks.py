"""``webhook`` in a body: at the end of its job, what came of it is posted there, signed, until it is taken.

As https://www.standardwebhooks.com has it: who receives it knows by the signature that it is ours, by the timestamp
that it is new, and by the id a repeat. Only hosts that the settings name are ever spoken to, and no redirection is
followed. What is due stands in the store, so a gateway that is started again goes on with it.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.gateway.errors import StoreUnavailable
from stablediffusiond.gateway.jobs import Job, Jobs
from stablediffusiond.messages.values import Body, shown
from stablediffusiond.settings import GatewaySettings

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS: Final = 10.0
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 3600.0
#: After that nobody is there who wants to know.
_GIVE_UP_SECONDS: Final = 3 * 86_400
_AT_ONCE: Final = 8
_STORE_PAUSE_SECONDS: Final = 5.0


def taken_from(fields: Body, settings: GatewaySettings) -> tuple[Body, str | None]:
    """``fields`` without the webhook, and the webhook.

    Raises:
        InvalidRequest: it is no address, or of a host that the settings do not name.
    """
    if (value := fields.get("webhook")) is None:
        return {name: each for name, each in fields.items() if name != "webhook"}, None
    if settings.webhook_secret is None or not settings.webhook_hosts:
        message = "this service posts nowhere; [gateway] webhook_hosts and webhook_secret would allow it"
        raise InvalidRequest(message, field="webhook")
    url = _split(value)
    if url is None or url.scheme not in {"http", "https"} or url.username is not None:
        raise InvalidRequest(f"'webhook' must be an address, http or https, not {shown(value)}", field="webhook")
    if url.hostname not in settings.webhook_hosts:
        raise InvalidRequest(f"[gateway] webhook_hosts does not have {shown(url.hostname)}", field="webhook")
    return {name: each for name, each in fields.items() if name != "webhook"}, str(value)


class Webhooks:
    """Those that are due."""

    def __init__(self, jobs: Jobs, secret: str, view: Callable[[Job], dict[str, Any]]) -> None:
        """``view`` makes what is posted."""
        self._jobs = jobs
        self._secret = secret.encode()
        self._view = view
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Post what is due now, and whenever a job ends, until cancelled."""
        async with asyncio.TaskGroup() as posting:
            while True:
                due = await self._jobs.due.get()
                posting.create_task(self._deliver(due), name=f"webhook of {due}")

    async def _deliver(self, job_id: str) -> None:
        pause_seconds, began = _FIRST_PAUSE_SECONDS, time.time()
        while (job := await self._job(job_id)) is not None and job.record.webhook is not None:
            await job.until_ended()
            body = json.dumps(self._view(job), ensure_ascii=False).encode()
            async with self._slots:
                failure = await asyncio.to_thread(_post, job.record.webhook, self._headers(job_id, body), body)
            if failure is None or time.time() - began > _GIVE_UP_SECONDS:
                if failure is not None:
                    log.warning("webhook of job %s: %s; given up", job_id, failure)
                await self._jobs.mark_notified(job)
                return
            log.info("webhook of job %s: %s; again in %.0f s", job_id, failure, pause_seconds)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    async def _job(self, job_id: str) -> Job | None:
        """However long the store is away."""
        while True:
            with contextlib.suppress(StoreUnavailable):
                return await self._jobs.get(job_id)
            await asyncio.sleep(_STORE_PAUSE_SECONDS)

    def _headers(self, job_id: str, body: bytes) -> dict[str, str]:
        moment = str(int(time.time()))
        signed = hmac.new(self._secret, f"{job_id}.{moment}.".encode() + body, hashlib.sha256).digest()
        return {
            "Content-Type": "application/json",
            "Webhook-Id": job_id,
            "Webhook-Timestamp": moment,
            "Webhook-Signature": f"v1,{base64.b64encode(signed).decode()}",
        }


def _post(address: str, headers: dict[str, str], body: bytes) -> str | None:
    """Why it was not taken; None if it was."""
    url = urlsplit(address)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(url.hostname or "", url.port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("POST", url.path + (f"?{url.query}" if url.query else "") or "/", body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"{url.hostname}: {error or type(error).__name__}"
    return None if 200 <= status < 300 else f"{url.hostname} answers {status}"


def _split(value: object) -> SplitResult | None:
    try:
        found = urlsplit(value) if isinstance(value, str) and value.isascii() and value.isprintable() else None
        if found is None or " " in str(value) or (found.port is not None and found.port < 1):
            return None
    except ValueError:
        return None
    return found
