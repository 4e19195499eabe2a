"""The messages on the queues: ``request`` (to the daemon), ``replies`` (from it), ``status`` (how it is).

``kept`` is how a message that was put aside is shown.
"""
