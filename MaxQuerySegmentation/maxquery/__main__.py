"""`python -m maxquery` is the command `maxquery`."""

import sys

from maxquery.cli import main

sys.exit(main())
