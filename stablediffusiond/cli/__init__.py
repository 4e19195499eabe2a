"""``stablediffusion_client``: ``command`` is its options and its help, ``wish`` what is asked for, ``errand``
its way to the service and back, ``targets`` where pictures go, ``report`` what is said meanwhile. Beside it stand
``status``, shown by ``board``, ``cancel``, and ``dead``.
"""

from stablediffusiond.cli.command import main

__all__ = ["main"]
