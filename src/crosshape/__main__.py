"""python -m crosshape"""

import sys

from crosshape.cli import main

sys.exit(main())
