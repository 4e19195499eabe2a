"""``stablediffusion_client``: ``command`` is its options and its help, ``request_arguments`` makes a
request of them, ``submission`` submits it and waits, ``output_files`` writes the pictures, ``event_printer`` prints
what happens meanwhile. Beside it stand ``status``, shown by ``status_view``, ``cancel``, and ``dead``.
"""

from stablediffusiond.cli.command import main

__all__ = ["main"]
