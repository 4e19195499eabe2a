"""The request daemon: jobs from the broker to the engine, pictures from the engine to the broker.

``daemon`` is its life, ``intake`` takes deliveries, ``ledger`` knows which jobs are in its hands, ``desk`` brings each
from delivery to ack, ``admission`` reads requests, ``answers`` words the replies, ``crashed`` answers the jobs that
nobody survived. ``control`` hears what is said to all daemons, ``tally`` counts, ``report`` says how things are,
``figures`` what Prometheus is told.
"""
