"""`python -m asteroid_ucr` is the command `asteroid-ucr`."""

import sys

from asteroid_ucr.cli import main

sys.exit(main())
