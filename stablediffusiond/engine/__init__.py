"""The engine: images of different jobs step together.

``job`` is the state of what is in flight, ``batcher`` the policy of who steps next, ``engine`` the loop that does both,
``denoiser`` the device; ``schedulers`` and ``models`` feed it, ``pictures`` is what leaves.
"""

import logging

# What they say when they are imported is about kernels for other machines.
for _name in ("torchao", "bitsandbytes", "diffusers.quantizers.torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
