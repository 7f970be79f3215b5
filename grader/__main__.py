"""`python -m grader`: the same as `mlekit`."""

import sys

from grader.entry import main

if __name__ == "__main__":
    sys.exit(main())
