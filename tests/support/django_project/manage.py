"""The project's management commands."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # The project alone, not the folder of the tests: `tests` must not be importable from here.
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
