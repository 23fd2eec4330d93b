"""``python -m fac_backup`` is ``fac-backup``."""

from fac_backup.cli.main import main

if __name__ == "__main__":
    main()
