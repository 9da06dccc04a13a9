"""python -m crosshape"""

import os
import sys

from crosshape.cli import main

status = main()
if os.environ.get("WORLD_SIZE", "1") != "1":  # one of torchrun's
    os._exit(
        status
    )  # threads of torch's process group now and then abort an interpreter that takes itself apart
sys.exit(status)
