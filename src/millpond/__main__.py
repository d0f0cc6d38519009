"""python -m millpond"""

import sys

from millpond.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
