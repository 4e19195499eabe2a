"""Which jobs there are, in the order in which they came: what is listed, and what is deleted to make room."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from stablediffusiond.gateway.store.job_store import Entry


class JobIndex:
    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {entry.id: entry for entry in sorted(entries, key=lambda entry: entry.created_at)}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._entries

    def __getitem__(self, job_id: str) -> Entry:
        """Raises KeyError."""
        return self._entries[job_id]

    def add(self, entry: Entry) -> None:
        """The newest."""
        self._entries[entry.id] = entry

    def discard(self, job_id: str) -> None:
        self._entries.pop(job_id, None)

    def without_end(self) -> list[str]:
        """Jobs whose last reply is not kept."""
        return [entry.id for entry in self._entries.values() if not entry.has_end]

    def due(self) -> list[str]:
        """Jobs whose webhook was not taken yet."""
        return [entry.id for entry in self._entries.values() if entry.is_due]

    def newest(self, owner: str | None, before: str | None) -> Iterator[str]:
        """Ids, the newest first; those that came before the job ``before``, if given, and only those of ``owner``."""
        ids = list(reversed(self._entries))
        if before in self._entries:
            ids = ids[ids.index(before) + 1 :]
        for job_id in ids:
            if (entry := self._entries.get(job_id)) and owner in {None, entry.owner}:
                yield job_id

    def too_old_or_too_much(self, oldest: datetime, most_bytes: int) -> list[str]:
        """Jobs to delete: those from before ``oldest``, and the oldest that have ended beyond ``most_bytes``."""
        left = sum(entry.bytes for entry in self._entries.values())
        found = []
        for entry in self._entries.values():
            if entry.created_at < oldest or (left > most_bytes and entry.has_end):
                found.append(entry.id)
                left -= entry.bytes
        return found
