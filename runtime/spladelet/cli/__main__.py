"""`python -m spladelet.cli`."""

import sys

from spladelet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
