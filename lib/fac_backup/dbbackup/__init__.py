"""django-dbbackup: reading the backups that it made, writing ones that it reads, and having it make one.

Streams in, streams out; which database and which bucket is the caller's matter (``operations``).
"""
