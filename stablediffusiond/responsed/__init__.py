"""The response daemon: replies from the broker to sockets.

``daemon`` is its life, ``server`` accepts connections, ``unix_socket`` makes the Unix socket. ``client_connection`` is
one client from accept to close: ``handshake`` until it listens, ``session`` from then on. ``client_stream`` is its
socket, of ``line_reader`` (with ``other_protocols``) and ``frame_writer`` (with ``local_peers``). ``queue_consumer`` is
the AMQP consumer that it reads from, ``deduplication`` what it was sent already, ``cancellations`` what it has
cancelled, ``lines`` the JSON lines, ``metrics`` what Prometheus gets.
"""
