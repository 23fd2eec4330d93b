"""Back up, restore and purge the data of a Django application: PostgreSQL and S3 documents.

The rooms, and the one direction in which they may use each other, are described in ``docs/architecture.md``.
"""

__version__ = "1.0.0"
