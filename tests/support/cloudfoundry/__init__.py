"""A stand-in for Cloud Foundry as cloud.gov runs it, strict where the real one is strict.

Written from cloud_controller_ng's API documentation and source, cloud-gov's S3 broker and log-cache, before the
client was.
Start it by hand: ``python -m tests.support.cloudfoundry`` (see ``__main__``).
"""

from .server import CloudFoundry, Fault
from .world import App, Binding, Instance, Space, Task, User, World

__all__ = ["App", "Binding", "CloudFoundry", "Fault", "Instance", "Space", "Task", "User", "World"]
