"""Cloud Foundry as cloud.gov runs it: credentials for as long as an operation lasts, and operations as tasks of an app.

Nothing outside this package imports it at start: who does not use cloud.gov does not load it (docs/cloud-gov.md).
"""
