"""What opening each of some files costs, in a process of its own: ``python -m tests.pictures.price FILE...``.

Prints a line of JSON for each: seconds of the processor, megabytes more than ever before, and what was said.
"""

import json
import resource
import sys
import time
from pathlib import Path

from PIL import Image

from stablediffusiond.errors import JobError
from stablediffusiond.pictures.opening import open_init_image
from tests.pictures.files import encoded


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(files: list[str]) -> None:
    open_init_image(encoded(Image.new("RGB", (64, 64)), "JPEG"), 64, 64)  # what is loaded once
    for file in files:
        data = Path(file).read_bytes()
        before, began = _peak_megabytes(), time.process_time()
        try:
            result = str(open_init_image(data, 512, 384).getpixel((9, 9)))
        except JobError as error:
            result = f"{type(error).__name__}: {error}"
        price = {"seconds": time.process_time() - began, "megabytes": _peak_megabytes() - before, "result": result}
        sys.stdout.write(json.dumps(price) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
