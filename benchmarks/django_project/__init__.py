"""A Django project that holds nothing but django-dbbackup and S3 storages; ``benchmarks.peers`` runs it."""
