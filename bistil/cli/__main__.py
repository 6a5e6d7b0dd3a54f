"""`python -m bistil.cli`."""

import sys

from bistil.cli import main

sys.exit(main())
