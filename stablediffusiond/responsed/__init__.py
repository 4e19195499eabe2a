"""The response daemon: replies from queues to sockets. No torch, no state.

``daemon`` is its life, ``server`` takes connections, ``doorway`` makes the Unix socket for them, ``session`` is one
client from hello to goodbye, ``feed`` is what a session gets from the broker, ``given`` what it has passed on, ``pipe``
its socket, ``lines`` words what goes over it, ``figures`` is what Prometheus is told.
"""
