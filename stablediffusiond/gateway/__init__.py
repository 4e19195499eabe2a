"""HTTP for those who do not speak AMQP: a client of the queue and nothing else, which the two daemons do not know of.

``daemon.py`` is its life. A request comes in by ``app.py``: ``guard.py`` lets it through, one of the three interfaces
(``jobs_api.py``, ``openai/``, ``a1111/``) reads it, ``submission.py`` makes a job of it, ``queue_client.py`` brings it
to the broker. Replies come back by ``queue_client.py``, ``replies.py`` has the ``store`` write them, and only then acks
them; ``jobs.py`` tells those who wait.
"""
