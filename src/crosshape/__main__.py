"""python -m crosshape"""

import os
import sys

from crosshape.cli import main

status = main()
if os.environ.get("WORLD_SIZE", "1") != "1":
    # One of torchrun's: threads of torch's process group now and then abort an interpreter that takes itself apart.
    os._exit(status)
sys.exit(status)
