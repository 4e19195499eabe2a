"""What only root may do, where the tests are started by a user who may use sudo."""

import os
from typing import Final

#: Stands before a command.
AS_ROOT: Final = () if os.geteuid() == 0 else ("sudo",)
