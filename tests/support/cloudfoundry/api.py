"""The v3 API: strict about fields, query parameters, roles, states and names, in the words of cloud_controller_ng."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from .broker import Broker, BrokerError
from .tasks import Tasks
from .world import App, Binding, Deployment, Instance, Job, Space, Task, Thing, User, World, now

Reply = tuple[int, dict[str, Any] | None, dict[str, str]]


class ApiError(Exception):
    """An error document of the v3 API."""

    def __init__(self, status: int, code: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"errors": [{"code": code, "title": title, "detail": detail}]}


def unprocessable(detail: str) -> ApiError:
    return ApiError(422, 10008, "CF-UnprocessableEntity", detail)


def missing(what: str) -> ApiError:
    return ApiError(404, 10010, "CF-ResourceNotFound", f"{what} not found")


NOT_AUTHORIZED = ApiError(403, 10003, "CF-NotAuthorized", "You are not authorized to perform the requested action")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_SELECTOR = re.compile(r",(?![^(]*\))")


def only(body: dict[str, Any], *allowed: str, where: str = "") -> None:
    unknown = [key for key in body if key not in allowed]
    if unknown:
        raise unprocessable(f"{where}Unknown field(s): '{unknown[0]}'")


def metadata_of(body: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    metadata = body.get("metadata") or {}
    only(metadata, "labels", "annotations", where="Metadata ")
    for key, value in (metadata.get("labels") or {}).items():
        if not key or not _LABEL.fullmatch(key.rpartition("/")[2]):
            raise unprocessable(f"Metadata label key error: '{key[:30]}' contains invalid characters")
        if value is not None and (not isinstance(value, str) or not _LABEL.fullmatch(value)):
            raise unprocessable(f"Metadata label value error: '{str(value)[:30]}' contains invalid characters")
    for value in (metadata.get("annotations") or {}).values():
        if len(value) > 5000:
            raise unprocessable("Metadata annotation value error: is greater than 5000 characters")
    return dict(metadata.get("labels") or {}), dict(metadata.get("annotations") or {})


def relabel(thing: Thing, body: dict[str, Any]) -> None:
    """An update of metadata: what is null is removed, what is not named stays."""
    for have, new in zip((thing.labels, thing.annotations), metadata_of(body), strict=True):
        have.update(new)
        for key in [key for key, value in have.items() if value is None]:
            del have[key]


def selected(thing: Thing, selector: str) -> bool:
    for part in _SELECTOR.split(selector):
        part = part.strip()
        if match := re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", part):
            inside = thing.labels.get(match[1]) in [v.strip() for v in match[3].split(",")]
            if inside != (match[2] == "in"):
                return False
        elif match := re.fullmatch(r"([^!=]+)(==|=|!=)(.*)", part):
            if (thing.labels.get(match[1]) == match[3]) != (match[2] != "!="):
                return False
        elif part.startswith("!"):
            if part[1:] in thing.labels:
                return False
        elif part not in thing.labels:
            return False
    return True


class Api:
    """Answers one request at a time, under the world's lock; brokers and tasks work beside it."""

    def __init__(self, world: World, broker: Broker, tasks: Tasks, address: Callable[[], str]) -> None:
        self.world, self.broker, self.tasks, self.address = world, broker, tasks, address
        self.rolling_polls = 1
        """How many times a deployment is looked at before it is done."""
        self.routes: list[tuple[str, re.Pattern[str], Callable[..., Reply]]] = []
        one = r"([0-9a-f-]{36})"
        for method, path, handler in (
            ("GET", "/v3/organizations", self.organizations),
            ("GET", "/v3/spaces", self.spaces),
            ("GET", "/v3/apps", self.apps),
            ("GET", f"/v3/apps/{one}", self.app),
            ("PATCH", f"/v3/apps/{one}", self.update_app),
            ("GET", f"/v3/apps/{one}/processes", self.processes),
            ("GET", f"/v3/apps/{one}/processes/web/stats", self.stats),
            ("POST", f"/v3/apps/{one}/actions/(start|stop|restart)", self.app_action),
            ("GET", "/v3/service_instances", self.service_instances),
            ("GET", f"/v3/service_instances/{one}", self.service_instance),
            ("POST", "/v3/service_instances", self.create_instance),
            ("DELETE", f"/v3/service_instances/{one}", self.delete_instance),
            ("GET", "/v3/service_credential_bindings", self.bindings),
            ("GET", f"/v3/service_credential_bindings/{one}", self.binding),
            ("GET", f"/v3/service_credential_bindings/{one}/details", self.details),
            ("POST", "/v3/service_credential_bindings", self.bind),
            ("PATCH", f"/v3/service_credential_bindings/{one}", self.update_binding),
            ("DELETE", f"/v3/service_credential_bindings/{one}", self.unbind),
            ("GET", f"/v3/jobs/{one}", self.job),
            ("POST", f"/v3/apps/{one}/tasks", self.create_task),
            ("GET", "/v3/tasks", self.list_tasks),
            ("GET", f"/v3/apps/{one}/tasks", self.list_app_tasks),
            ("GET", f"/v3/tasks/{one}", self.task),
            ("PATCH", f"/v3/tasks/{one}", self.update_task),
            ("POST", f"/v3/tasks/{one}/actions/cancel", self.cancel_task),
            ("POST", f"/v3/tasks/{one}/cancel", self.cancel_task),
            ("POST", "/v3/deployments", self.create_deployment),
            ("GET", f"/v3/deployments/{one}", self.deployment),
            ("GET", "/v3/deployments", self.deployments),
        ):
            self.routes.append((method, re.compile(path), handler))

    def answer(self, user: User, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Reply:
        for verb, pattern, handler in self.routes:
            match = pattern.fullmatch(path)
            if match and verb == method:
                with self.world.lock:
                    if method == "GET":
                        return handler(user, *match.groups(), query)
                    return handler(user, *match.groups(), body)
        raise ApiError(404, 10000, "CF-NotFound", "Unknown request")

    # who may see and do what

    def _sees(self, user: User, space: Space) -> bool:
        return space.guid in user.roles

    def _develops(self, user: User, space: Space) -> None:
        if user.roles.get(space.guid) != "developer":
            raise NOT_AUTHORIZED

    def _sees_instance(self, user: User, instance: Instance) -> bool:
        return any(self._sees(user, space) for space in [instance.space, *instance.shared_into])

    def _visible(self, user: User, what: str, things: Iterable[Any], guid: str, sees: Callable[[Any], bool]) -> Any:
        found = next((thing for thing in things if thing.guid == guid and sees(thing)), None)
        if found is None:
            raise missing(what)
        return found

    def _app(self, user: User, guid: str) -> App:
        found: App = self._visible(user, "App", self.world.apps, guid, lambda a: self._sees(user, a.space))
        return found

    def _sees_binding(self, user: User, binding: Binding) -> bool:
        return self._sees(user, binding.app.space if binding.app else binding.instance.space)

    # lists

    def _list(
        self, path: str, query: dict[str, str], things: list[Any], filters: dict[str, Callable[[Any], str | None]],
        show: Callable[[Any], dict[str, Any]],
    ) -> Reply:  # fmt: skip
        valid = [*filters, "label_selector", "page", "per_page", "order_by", "created_ats", "updated_ats"]
        unknown = [key for key in query if key not in valid]
        if unknown:
            raise ApiError(400, 10005, "CF-BadQueryParameter", "The query parameter is invalid: Unknown query "
                           f"parameter(s): '{unknown[0]}'. Valid parameters are: {valid}")  # fmt: skip
        for key, value_of in filters.items():
            if key in query:
                wanted = [query[key], *query[key].split(",")]
                things = [thing for thing in things if value_of(thing) in wanted]
        if "label_selector" in query:
            things = [thing for thing in things if selected(thing, query["label_selector"])]
        if query.get("order_by", "").startswith("-"):
            things = things[::-1]
        page, size = int(query.get("page", "1")), int(query.get("per_page", "50"))
        if page < 1 or not 1 <= size <= 5000:
            raise ApiError(400, 10005, "CF-BadQueryParameter",
                           "The query parameter is invalid: Per page must be between 1 and 5000")  # fmt: skip
        pages = max(1, -(-len(things) // size))

        def link(number: int) -> dict[str, str] | None:
            if not 1 <= number <= pages:
                return None
            return {"href": f"{self.address()}{path}?{urlencode({**query, 'page': number, 'per_page': size})}"}

        return 200, {
            "pagination": {"total_results": len(things), "total_pages": pages, "first": link(1), "last": link(pages),
                           "next": link(page + 1), "previous": link(page - 1)},
            "resources": [show(thing) for thing in things[(page - 1) * size : page * size]],
        }, {}  # fmt: skip

    def _common(self, thing: Thing, path: str) -> dict[str, Any]:
        return {
            "guid": thing.guid, "name": thing.name, "created_at": thing.created_at, "updated_at": now(),
            "metadata": {"labels": thing.labels, "annotations": thing.annotations},
            "links": {"self": {"href": f"{self.address()}{path}/{thing.guid}"}},
        }  # fmt: skip

    def organizations(self, user: User, query: dict[str, str]) -> Reply:
        orgs = [o for o in self.world.orgs if any(s.org is o and self._sees(user, s) for s in self.world.spaces)]
        return self._list("/v3/organizations", query, orgs, {"names": lambda o: o.name, "guids": lambda o: o.guid},
                          lambda o: self._common(o, "/v3/organizations"))  # fmt: skip

    def spaces(self, user: User, query: dict[str, str]) -> Reply:
        def show(space: Space) -> dict[str, Any]:
            return self._common(space, "/v3/spaces") | {
                "relationships": {"organization": {"data": {"guid": space.org.guid}}, "quota": {"data": None}}
            }

        filters: dict[str, Any] = {
            "names": lambda s: s.name, "guids": lambda s: s.guid, "organization_guids": lambda s: s.org.guid,
        }  # fmt: skip
        return self._list("/v3/spaces", query, [s for s in self.world.spaces if self._sees(user, s)], filters, show)

    def _show_app(self, app: App) -> dict[str, Any]:
        return self._common(app, "/v3/apps") | {
            "state": app.state, "lifecycle": {"type": "buildpack", "data": {"buildpacks": [], "stack": "cflinuxfs4"}},
            "relationships": {"space": {"data": {"guid": app.space.guid}}},
        }  # fmt: skip

    def apps(self, user: User, query: dict[str, str]) -> Reply:
        filters: dict[str, Any] = {
            "names": lambda a: a.name, "guids": lambda a: a.guid, "space_guids": lambda a: a.space.guid,
            "organization_guids": lambda a: a.space.org.guid,
        }  # fmt: skip
        apps = [a for a in self.world.apps if self._sees(user, a.space)]
        return self._list("/v3/apps", query, apps, filters, self._show_app)

    def app(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        return 200, self._show_app(self._app(user, guid)), {}

    def update_app(self, user: User, guid: str, body: dict[str, Any]) -> Reply:
        app = self._app(user, guid)
        self._develops(user, app.space)
        only(body, "name", "lifecycle", "metadata")
        relabel(app, body)
        return 200, self._show_app(app), {}

    def processes(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        self._app(user, guid)
        return self._list(f"/v3/apps/{guid}/processes", query, [], {}, dict)

    def stats(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        app = self._app(user, guid)
        state = "DOWN" if app.state != "STARTED" else "CRASHED" if app.start_fails else "RUNNING"
        return 200, {"resources": [{"type": "web", "index": 0, "state": state}]}, {}

    def app_action(self, user: User, guid: str, action: str, body: dict[str, Any]) -> Reply:
        app = self._app(user, guid)
        self._develops(user, app.space)
        if action == "stop":
            app.state = "STOPPED"
        else:
            if not app.staged:
                raise unprocessable("Assign a droplet before starting this app.")
            self.world.start(app)
        return 200, self._show_app(app), {}

    # service instances

    def _show_instance(self, instance: Instance) -> dict[str, Any]:
        shown = self._common(instance, "/v3/service_instances")
        shown["relationships"] = {"space": {"data": {"guid": instance.space.guid}}}
        if instance.managed:
            state = "in progress" if instance.busy else "succeeded"
            shown |= {"type": "managed", "tags": [], "dashboard_url": None, "upgrade_available": False,
                      "last_operation": {"type": "update" if instance.busy else "create", "state": state,
                                         "description": "", "created_at": instance.created_at}}  # fmt: skip
        else:
            shown |= {"type": "user-provided", "tags": [], "syslog_drain_url": None, "route_service_url": None}
        return shown

    def service_instances(self, user: User, query: dict[str, str]) -> Reply:
        wanted = query.get("space_guids")
        found = [i for i in self.world.instances if self._sees_instance(user, i)]
        if wanted is not None:  # also what is shared into these spaces
            guids = wanted.split(",")
            found = [i for i in found if any(s.guid in guids for s in [i.space, *i.shared_into])]
        filters: dict[str, Any] = {
            "names": lambda i: i.name, "guids": lambda i: i.guid,
            "organization_guids": lambda i: i.space.org.guid,
            "space_guids": lambda i: wanted,
            "type": lambda i: "managed" if i.managed else "user-provided",
        }  # fmt: skip
        return self._list("/v3/service_instances", query, found, filters, self._show_instance)

    def _instance(self, user: User, guid: str) -> Instance:
        found: Instance = self._visible(user, "Service instance", self.world.instances, guid,
                                        lambda i: self._sees_instance(user, i))  # fmt: skip
        return found

    def service_instance(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        return 200, self._show_instance(self._instance(user, guid)), {}

    def create_instance(self, user: User, body: dict[str, Any]) -> Reply:
        if body.get("type") != "user-provided":
            raise unprocessable("The stand-in makes user-provided instances only")
        only(body, "type", "name", "tags", "credentials", "syslog_drain_url", "route_service_url", "relationships",
             "metadata")  # fmt: skip
        only(body.get("relationships") or {}, "space", where="Relationships ")
        space = self._related(body, "space", [s for s in self.world.spaces if self._sees(user, s)], "Invalid space. "
                              "Ensure that the space exists and you have access to it.")  # fmt: skip
        self._develops(user, space)
        name = body.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= 255:
            raise unprocessable("Name must be a string")
        if any(i.name == name and space in [i.space, *i.shared_into] for i in self.world.instances):
            raise unprocessable(f"The service instance name is taken: {name}.")
        if not isinstance(body.get("credentials", {}), dict):
            raise unprocessable("Credentials must be an object")
        labels, annotations = metadata_of(body)
        instance = Instance(name, space, "user-provided", credentials=body.get("credentials", {}), labels=labels,
                            annotations=annotations)  # fmt: skip
        self.world.instances.append(instance)
        return 201, self._show_instance(instance), {}

    def delete_instance(self, user: User, guid: str, body: dict[str, Any]) -> Reply:
        instance = self._instance(user, guid)
        self._develops(user, instance.space)
        if instance.managed:
            raise ApiError(500, 10001, "StandIn", "A managed instance must never be deleted by what is tested here")
        self.world.bindings = [b for b in self.world.bindings if b.instance is not instance]
        self.world.instances.remove(instance)
        return 204, None, {}

    # credential bindings

    def _show_binding(self, binding: Binding) -> dict[str, Any]:
        shown = self._common(binding, "/v3/service_credential_bindings")
        related = {"service_instance": {"data": {"guid": binding.instance.guid}}}
        if binding.app:
            related["app"] = {"data": {"guid": binding.app.guid}}
        return shown | {
            "type": binding.type, "relationships": related,
            "last_operation": {"type": binding.operation, "state": binding.state, "description": binding.description,
                               "created_at": binding.created_at, "updated_at": now()},
        }  # fmt: skip

    def bindings(self, user: User, query: dict[str, str]) -> Reply:
        filters: dict[str, Any] = {
            "names": lambda b: b.name, "guids": lambda b: b.guid, "type": lambda b: b.type,
            "service_instance_guids": lambda b: b.instance.guid, "service_instance_names": lambda b: b.instance.name,
            "app_guids": lambda b: b.app and b.app.guid, "app_names": lambda b: b.app and b.app.name,
        }  # fmt: skip
        found = [b for b in self.world.bindings if self._sees_binding(user, b)]
        return self._list("/v3/service_credential_bindings", query, found, filters, self._show_binding)

    def _binding(self, user: User, guid: str) -> Binding:
        found: Binding = self._visible(user, "Service credential binding", self.world.bindings, guid,
                                       lambda b: self._sees_binding(user, b))  # fmt: skip
        return found

    def binding(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        return 200, self._show_binding(self._binding(user, guid)), {}

    def details(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        binding = self._binding(user, guid)
        if user.roles.get((binding.app.space if binding.app else binding.instance.space).guid) != "developer":
            raise missing("Service credential binding")
        if not binding.usable and binding.operation == "create":
            doing = "failed" if binding.state == "failed" else "is in progress"
            raise ApiError(404, 10010, "CF-ResourceNotFound", f"Creation of service credential binding {doing}")
        return 200, {"credentials": binding.credentials, "syslog_drain_url": None, "volume_mounts": []}, {}

    def bind(self, user: User, body: dict[str, Any]) -> Reply:
        only(body, "type", "name", "relationships", "parameters", "metadata")
        related = body.get("relationships") or {}
        only(related, "service_instance", "app", where="Relationships ")
        if body.get("type") not in ("app", "key"):
            raise unprocessable("Type must be 'app' or 'key'")
        if not isinstance(body.get("parameters") or {}, dict):
            raise unprocessable("Parameters must be an object")
        labels, annotations = metadata_of(body)
        wanted = (related.get("service_instance") or {}).get("data", {}).get("guid", "")
        try:
            instance = self._instance(user, wanted)
        except ApiError:
            raise unprocessable(f"The service instance could not be found: '{wanted}'") from None
        name = body.get("name")
        if body["type"] == "app":
            self._check_app_binding(user, body, instance, name)
            app = self._app(user, related["app"]["data"]["guid"])
            old = next((b for b in self.world.bindings if b.instance is instance and b.app is app), None)
            if old:
                self.world.bindings.remove(old)  # a create that failed is replaced
        else:
            app = None
            self._check_key(user, instance, name, related)
            self.world.bindings = [b for b in self.world.bindings
                                   if not (b.type == "key" and b.instance is instance and b.name == name)]  # fmt: skip
        binding = Binding(name, body["type"], instance, app, labels=labels, annotations=annotations,
                          parameters=body.get("parameters") or {})  # fmt: skip
        self.world.bindings.append(binding)
        if not instance.managed:
            if body.get("parameters"):
                raise unprocessable("Binding parameters are not supported for user-provided service instances")
            binding.state, binding.credentials = "succeeded", instance.credentials
            return 201, self._show_binding(binding), {}
        return self._job("service_bindings.create", lambda job: self._do_bind(binding, job))

    def _check_app_binding(self, user: User, body: dict[str, Any], instance: Instance, name: str | None) -> None:
        wanted = ((body["relationships"].get("app") or {}).get("data") or {}).get("guid", "")
        if not wanted:
            raise unprocessable("Relationships App can't be blank")
        try:
            app = self._app(user, wanted)
        except ApiError:
            raise unprocessable(f"The app could not be found: '{wanted}'") from None
        self._develops(user, app.space)
        if app.space not in [instance.space, *instance.shared_into]:
            raise unprocessable("The service instance and the app are in different spaces")
        if instance.busy:
            raise unprocessable("There is an operation in progress for the service instance.")
        old = next((b for b in self.world.bindings if b.instance is instance and b.app is app), None)
        if old and old.operation == "create" and old.state != "failed":
            raise unprocessable("The app is already bound to the service instance")
        if old and old.operation == "delete":
            raise unprocessable("The binding is getting deleted or its deletion failed")
        if name and any(b.app is app and b.name == name for b in self.world.bindings):
            raise unprocessable("The binding name is invalid. App binding names must be unique. The app already has a "
                                f"binding with name '{name}'.")  # fmt: skip

    def _check_key(self, user: User, instance: Instance, name: str | None, related: dict[str, Any]) -> None:
        if "app" in related:
            raise unprocessable("Unknown field(s): 'app'")
        if not name:
            raise unprocessable("Name can't be blank")
        self._develops(user, instance.space)
        if not instance.managed:
            raise unprocessable("Service credential bindings of type 'key' are not supported for user-provided service "
                                "instances.")  # fmt: skip
        if instance.busy:
            raise unprocessable("There is an operation in progress for the service instance.")
        if any(b.type == "key" and b.instance is instance and b.name == name
               and not (b.operation == "create" and b.state == "failed") for b in self.world.bindings):  # fmt: skip
            raise unprocessable("The binding name is invalid. Key binding names must be unique. The service instance "
                                f"already has a key binding with name '{name}'.")  # fmt: skip

    def _do_bind(self, binding: Binding, job: Job) -> None:
        binding.state = "in progress"
        time.sleep(self.broker.seconds)
        try:
            binding.credentials = self.broker.bind(binding)
            binding.state = "succeeded"
            job.state = "COMPLETE"
        except BrokerError as error:
            binding.state, binding.description = "failed", str(error)
            self._fail(job, str(error))

    def update_binding(self, user: User, guid: str, body: dict[str, Any]) -> Reply:
        binding = self._binding(user, guid)
        self._develops(user, binding.app.space if binding.app else binding.instance.space)
        only(body, "metadata")
        if binding.operation == "delete" and binding.state == "in progress":
            raise unprocessable("The service binding is being deleted")
        relabel(binding, body)
        return 200, self._show_binding(binding), {}

    def unbind(self, user: User, guid: str, body: dict[str, Any]) -> Reply:
        binding = self._binding(user, guid)
        self._develops(user, binding.app.space if binding.app else binding.instance.space)
        if binding.state in ("initial", "in progress") and binding.operation == "delete":
            raise unprocessable("There is an operation in progress for the service binding.")
        if binding.instance.busy:
            raise unprocessable("There is an operation in progress for the service instance.")
        if not binding.instance.managed:
            self.world.bindings.remove(binding)
            return 204, None, {}
        creating = binding.operation == "create" and binding.state in ("initial", "in progress")
        if creating:
            raise unprocessable("There is an operation in progress for the service binding.")
        binding.operation, binding.state = "delete", "in progress"
        return self._job("service_bindings.delete", lambda job: self._do_unbind(binding, job))

    def _do_unbind(self, binding: Binding, job: Job) -> None:
        time.sleep(self.broker.seconds)
        try:
            self.broker.unbind(binding)
        except BrokerError as error:
            binding.state, binding.description = "failed", str(error)
            self._fail(
                job, f"Service broker failed to delete service binding for instance {binding.instance.name}: {error}"
            )
            return
        with self.world.lock:
            if binding in self.world.bindings:
                self.world.bindings.remove(binding)
        job.state = "COMPLETE"

    # jobs

    def _job(self, operation: str, work: Callable[[Job], None]) -> Reply:
        job = Job(None, operation)
        self.world.jobs.append(job)
        job.thread = threading.Thread(target=work, args=(job,), daemon=True)
        job.thread.start()
        return 202, None, {"Location": f"{self.address()}/v3/jobs/{job.guid}"}

    def _fail(self, job: Job, detail: str) -> None:
        job.errors = [{"code": 10008, "title": "CF-UnprocessableEntity", "detail": detail}]
        job.state = "FAILED"

    def job(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        job = next((j for j in self.world.jobs if j.guid == guid), None)
        if job is None:
            raise missing("Job")
        shown = self._common(job, "/v3/jobs")
        del shown["name"], shown["metadata"]
        answer = 200, shown | {"operation": job.operation, "state": job.state, "errors": job.errors, "warnings": []}, {}
        if job.state == "PROCESSING":
            job.state = "POLLING"
        return answer

    # tasks

    def _show_task(self, task: Task, *, command: bool = True) -> dict[str, Any]:
        shown = self._common(task, "/v3/tasks") | {
            "sequence_id": task.sequence, "state": task.state, "memory_in_mb": task.memory_in_mb,
            "disk_in_mb": task.disk_in_mb, "log_rate_limit_in_bytes_per_second": -1,
            "result": {"failure_reason": task.failure_reason}, "droplet_guid": task.app.guid,
            "relationships": {"app": {"data": {"guid": task.app.guid}}},
        }  # fmt: skip
        return shown | {"command": task.command} if command else shown

    def create_task(self, user: User, guid: str, body: dict[str, Any]) -> Reply:
        app = self._app(user, guid)
        self._develops(user, app.space)
        only(body, "name", "command", "disk_in_mb", "memory_in_mb", "log_rate_limit_in_bytes_per_second",
             "droplet_guid", "template", "user", "metadata")  # fmt: skip
        if not body.get("command"):
            raise unprocessable("No command or template provided")
        if len(body["command"]) > 4096:
            raise unprocessable("The request is semantically invalid: command must be shorter than 4097 characters")
        for key in ("memory_in_mb", "disk_in_mb"):
            if body.get(key) is not None and (not isinstance(body[key], int) or body[key] < 1):
                raise unprocessable(f"{key.replace('_', ' ').capitalize()} must be greater than 0")
        if not app.staged:
            raise unprocessable("Task must have a droplet. Assign current droplet to app.")
        used = sum(t.memory_in_mb for t in self.world.tasks if t.state == "RUNNING" and t.app.space is app.space)
        memory = body.get("memory_in_mb") or 1024
        if used + memory > app.space.memory_quota_mb:
            raise unprocessable("The request is semantically invalid: memory_in_mb exceeds space memory quota")
        labels, annotations = metadata_of(body)
        app.task_count += 1
        task = Task(body.get("name") or f"{app.task_count:08x}", app, body["command"], app.task_count, memory,
                    body.get("disk_in_mb") or 1024, labels=labels, annotations=annotations)  # fmt: skip
        self.world.tasks.append(task)
        self.tasks.start(task)
        return 202, self._show_task(task), {}

    def _task_filters(self) -> dict[str, Any]:
        return {
            "names": lambda t: t.name, "guids": lambda t: t.guid, "states": lambda t: t.state,
            "app_guids": lambda t: t.app.guid, "space_guids": lambda t: t.app.space.guid,
            "organization_guids": lambda t: t.app.space.org.guid,
        }  # fmt: skip

    def list_tasks(self, user: User, query: dict[str, str]) -> Reply:
        found = [t for t in self.world.tasks if self._sees(user, t.app.space)]
        return self._list("/v3/tasks", query, found, self._task_filters(), lambda t: self._show_task(t, command=False))

    def list_app_tasks(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        app = self._app(user, guid)
        found = [t for t in self.world.tasks if t.app is app]
        filters = self._task_filters() | {"sequence_ids": lambda t: str(t.sequence)}
        return self._list(f"/v3/apps/{guid}/tasks", query, found, filters, lambda t: self._show_task(t, command=False))

    def _task(self, user: User, guid: str) -> Task:
        found: Task = self._visible(user, "Task", self.world.tasks, guid, lambda t: self._sees(user, t.app.space))
        return found

    def task(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        return 200, self._show_task(self._task(user, guid)), {}

    def update_task(self, user: User, guid: str, body: dict[str, Any]) -> Reply:
        task = self._task(user, guid)
        self._develops(user, task.app.space)
        only(body, "metadata")
        relabel(task, body)
        return 200, self._show_task(task), {}

    def cancel_task(self, user: User, guid: str, body: dict[str, Any]) -> Reply:
        task = self._task(user, guid)
        self._develops(user, task.app.space)
        if task.state in ("SUCCEEDED", "FAILED"):
            raise unprocessable(f"Task state is {task.state} and therefore cannot be canceled")
        self.tasks.cancel(task)
        return 202, self._show_task(task), {}

    # deployments

    def _show_deployment(self, deployment: Deployment) -> dict[str, Any]:
        return self._common(deployment, "/v3/deployments") | {
            "status": {"value": deployment.value, "reason": deployment.reason, "details": {}}, "strategy": "rolling",
            "relationships": {"app": {"data": {"guid": deployment.app.guid}}},
        }  # fmt: skip

    def create_deployment(self, user: User, body: dict[str, Any]) -> Reply:
        only(body, "droplet", "revision", "strategy", "options", "relationships", "metadata")
        app = self._related(body, "app", [a for a in self.world.apps if self._sees(user, a.space)],
                            "Unable to use app. Ensure that the app exists and you have access to it.")  # fmt: skip
        self._develops(user, app.space)
        if app.state != "STARTED":
            raise unprocessable("Cannot create a deployment for a STOPPED app.")
        labels, annotations = metadata_of(body)
        deployment = Deployment(None, app, labels=labels, annotations=annotations)
        self.world.deployments.append(deployment)
        self.world.start(app)
        return 201, self._show_deployment(deployment), {}

    def deployments(self, user: User, query: dict[str, str]) -> Reply:
        filters: dict[str, Any] = {
            "app_guids": lambda d: d.app.guid, "status_values": lambda d: d.value, "states": lambda d: d.value,
        }  # fmt: skip
        found = [d for d in self.world.deployments if self._sees(user, d.app.space)]
        return self._list("/v3/deployments", query, found, filters, self._show_deployment)

    def deployment(self, user: User, guid: str, query: dict[str, str]) -> Reply:
        found: Deployment = self._visible(user, "Deployment", self.world.deployments, guid,
                                          lambda d: self._sees(user, d.app.space))  # fmt: skip
        found.polls += 1
        if found.polls > self.rolling_polls and not found.app.start_fails:
            found.value, found.reason = "FINALIZED", "DEPLOYED"
        return 200, self._show_deployment(found), {}

    def _related(self, body: dict[str, Any], name: str, things: list[Any], sentence: str) -> Any:
        wanted = (((body.get("relationships") or {}).get(name) or {}).get("data") or {}).get("guid")
        found = next((thing for thing in things if thing.guid == wanted), None)
        if found is None:
            raise unprocessable(sentence)
        return found
