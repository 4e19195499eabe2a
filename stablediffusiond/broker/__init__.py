"""RabbitMQ, as the rest of this project sees it; pika is imported nowhere else.

``topology`` says which queues there are, ``parameters`` and ``tls`` how to reach the broker, ``connection`` makes one
connection and its channels awaitable, ``link`` connects again for ever, ``publisher`` brings a message to the
broker whatever happens in between.
"""
