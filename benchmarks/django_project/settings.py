"""Settings, from the environment that ``benchmarks.peers`` makes."""

import os

_S3 = {
    "endpoint_url": os.environ["AWS_ENDPOINT_URL_S3"],
    "access_key": os.environ["AWS_ACCESS_KEY_ID"],
    "secret_key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "region_name": os.environ["AWS_DEFAULT_REGION"],
    "file_overwrite": True,
}

SECRET_KEY = "of-a-benchmark"
INSTALLED_APPS = ["dbbackup"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
    }
}
STORAGES = {
    "default": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {**_S3, "bucket_name": os.environ["BENCH_MEDIA_BUCKET"]},
    },
    "dbbackup": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {**_S3, "bucket_name": os.environ["BENCH_BACKUPS_BUCKET"]},
    },
}
DBBACKUP_CONNECTORS = {
    "default": {
        "CONNECTOR": "dbbackup.db.postgresql.PgDumpBinaryConnector",
        "DUMP_CMD": os.environ["BENCH_PG_BIN"] + "/pg_dump",
        "RESTORE_CMD": os.environ["BENCH_PG_BIN"] + "/pg_restore",
    }
}
