"""Addresses that open one picture without a token, cannot be guessed, and end."""

import hashlib
import hmac
import time
from urllib.parse import quote

from stablediffusiond.gateway.errors import NotFound
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.store.records import StoredImage


class Links:
    """Signed with ``secret``; each is good for ``url_seconds``, or up to a twentieth more."""

    def __init__(self, secret: str, url_seconds: int) -> None:
        self._secret = secret.encode()
        self._seconds = url_seconds

    def path(self, job: Job, image: StoredImage) -> str:
        """The same for a while, so that a browser that asks again need not fetch it again."""
        step = max(1, self._seconds // 20)
        until = (int(time.time()) + self._seconds + step - 1) // step * step
        key = self._key(job.id, image.file, until)
        return f"/pictures/{quote(job.id)}/{image.file}?until={until}&key={key}"

    def check(self, job_id: str, file: str, until: str, key: str) -> None:
        """Raise NotFound, unless it is one of ours and has not ended."""
        good = until.isascii() and until.isdecimal() and len(until) < 16
        if not good or not hmac.compare_digest(self._key(job_id, file, int(until)).encode(), key.encode()):
            raise NotFound("there is no such picture; addresses of pictures have to be used as they were given")
        if int(until) < time.time():
            raise NotFound("the address of this picture has ended; ask for the job again, which gives a new one")

    def _key(self, job_id: str, file: str, until: int) -> str:
        return hmac.new(self._secret, f"{job_id}\n{file}\n{until}".encode(), hashlib.sha256).hexdigest()
