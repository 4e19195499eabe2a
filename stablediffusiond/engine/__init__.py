"""The engine: images of different jobs step together.

``job`` is the state of what is in flight, ``batcher`` the policy of who steps next, ``engine`` the loop that does both,
``denoiser`` the device; ``schedulers`` and ``models`` feed it, ``pictures`` is what leaves.
"""
