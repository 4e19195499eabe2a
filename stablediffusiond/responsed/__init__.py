"""The response daemon: replies from the broker to sockets.

``daemon`` is its life, ``server`` accepts connections, ``unix_socket`` makes the Unix socket. ``session`` is one client
from connect to close, ``client_stream`` its socket, ``queue_consumer`` the AMQP consumer that it reads from,
``deduplication`` what it was sent already, ``lines`` the JSON lines, ``metrics`` what Prometheus gets.
"""
