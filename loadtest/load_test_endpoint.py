"""The same as ``mlgates loadtest``: ``python loadtest/load_test_endpoint.py --uri URI --n 1000 --concurrency 8``."""

import sys

from pytest_mlgates.cli import main

if __name__ == "__main__":
    sys.exit(main(["loadtest", *sys.argv[1:]]))
