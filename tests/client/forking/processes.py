"""Uses a client from several threads, forks meanwhile in two ways, and uses it in all of these processes at a time.

Prints the parent's queue, waits for a line, and prints what each of the processes has seen, in JSON.
"""

import json
import multiprocessing
import os
import sys
import threading
from typing import Any

from stablediffusiond.client import Client, Job
from stablediffusiond.errors import BelongsElsewhere

CHILDREN = 3


def seen(client: Client, of_parent: Job) -> dict[str, Any]:
    """What a child sees: its own job, and why it does not get its parent's."""
    try:
        refusal = f"read: {list(of_parent)}"
    except BelongsElsewhere as error:
        refusal = str(error)
    of_parent.forget()
    with client.submit(prompt="of a child", timeout_seconds=60) as job:
        events = [type(event).__name__ for event in job.events(timeout_seconds=60)]
    return {"process": os.getpid(), "queue": client.queue, "refusal": refusal, "events": events}


def in_child(client: Client, of_parent: Job, results: Any) -> None:
    with client:
        results.put(seen(client, of_parent))


def main() -> None:
    client = Client()
    job = client.submit(prompt="of the parent")
    print(client.queue, flush=True)
    sys.stdin.readline()
    ended = threading.Event()
    threads = [threading.Thread(target=keep_busy, args=(client, ended)) for _ in range(4)]
    for thread in threads:
        thread.start()
    results = multiprocessing.get_context("fork").SimpleQueue()
    plain = os.fork()
    if not plain:  # which ends as any program does
        in_child(client, job, results)
        sys.exit()
    children = [
        multiprocessing.get_context("fork").Process(target=in_child, args=(client, job, results))
        for _ in range(CHILDREN)
    ]
    for child in children:
        child.start()
    all_seen = [results.get() for _ in range(CHILDREN + 1)]
    for child in children:
        child.join()
    assert os.waitpid(plain, 0)[1] == 0
    assert [child.exitcode for child in children] == [0] * CHILDREN
    ended.set()
    for thread in threads:
        thread.join()
    print(json.dumps(all_seen), flush=True)
    sys.stdin.readline()
    print(json.dumps([type(event).__name__ for event in job.events(timeout_seconds=60)]))
    client.close()


def keep_busy(client: Client, ended: threading.Event) -> None:
    """So that locks are held when the process is forked."""
    while not ended.is_set():
        client.cancel("nobody")


if __name__ == "__main__":
    main()
