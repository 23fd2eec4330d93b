"""Settings, from the environment that ``Project.env`` makes."""

import os

SECRET_KEY = "of-a-test-project"
INSTALLED_APPS = ["records", "dbbackup"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["PROJECT_PORT"],
        "NAME": os.environ["PROJECT_DATABASE"],
        "USER": os.environ["PROJECT_USER"],
        "PASSWORD": os.environ["PROJECT_PASSWORD"],
    }
}
MEDIA_ROOT = os.environ["PROJECT_MEDIA"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": MEDIA_ROOT}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "dbbackup": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": os.environ["PROJECT_BACKUPS"]},
    },
}
_BIN = os.environ["PROJECT_BIN"]
_CONNECTOR = os.environ["PROJECT_CONNECTOR"]
DBBACKUP_HOSTNAME = "web1"
DBBACKUP_CONNECTORS = {
    "default": {
        "CONNECTOR": f"dbbackup.db.postgresql.{_CONNECTOR}",
        "DUMP_CMD": f"{_BIN}/pg_dump",
        "RESTORE_CMD": f"{_BIN}/pg_restore" if _CONNECTOR == "PgDumpBinaryConnector" else f"{_BIN}/psql",
    }
}
