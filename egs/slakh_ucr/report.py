"""Stage 6: writes the report page and the publishable package."""

import argparse
import sys
from pathlib import Path

from asteroid_ucr.cli import exit_code
from asteroid_ucr.reports.page import write_report
from asteroid_ucr.reports.publish import write_package

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--exp_dir", required=True, type=Path, help="folder of an evaluated experiment")


def main() -> None:
    """Runs the stage."""
    options = parser.parse_args()
    print(f"wrote {write_report(options.exp_dir)}")
    print(f"wrote {write_package(options.exp_dir)}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
