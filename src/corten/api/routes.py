"""Every operation of Docker's API as data: ours from the handler files, the rest with the answer it gets here.

A path docker knows and we do not do yet answers 501 naming it, never 404: a client can tell the two apart.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from corten.api.request import Request
from corten.api.response import Response, json_response
from corten.api.router import Route, Router
from corten.base.errors import Unavailable, Unsupported

HANDLERS = (
    "system", "events", "containers", "exec", "attach", "logs", "stats", "top", "archive", "images", "volumes",
    "networks", "build", "buildkit.routes", "distribution", "gateway", "trust",
)

# docker's operations, one a line, as `METHOD path`; moby api/swagger.yaml and daemon/server/router
OPERATIONS = """
HEAD /_ping
GET /_ping
GET /info
GET /version
GET /events
GET /system/df
POST /auth
GET /containers/json
POST /containers/create
POST /containers/prune
GET /containers/{id}/json
GET /containers/{id}/top
GET /containers/{id}/logs
GET /containers/{id}/changes
GET /containers/{id}/export
GET /containers/{id}/stats
POST /containers/{id}/resize
POST /containers/{id}/start
POST /containers/{id}/stop
POST /containers/{id}/restart
POST /containers/{id}/kill
POST /containers/{id}/update
POST /containers/{id}/rename
POST /containers/{id}/pause
POST /containers/{id}/unpause
POST /containers/{id}/attach
GET /containers/{id}/attach/ws
POST /containers/{id}/wait
DELETE /containers/{id}
HEAD /containers/{id}/archive
GET /containers/{id}/archive
PUT /containers/{id}/archive
POST /containers/{id}/exec
POST /exec/{id}/start
POST /exec/{id}/resize
GET /exec/{id}/json
GET /containers/{id}/checkpoints
POST /containers/{id}/checkpoints
DELETE /containers/{id}/checkpoints/{checkpoint}
GET /images/json
GET /images/search
GET /images/get
GET /images/{name:path}/get
GET /images/{name:path}/history
GET /images/{name:path}/json
POST /images/load
POST /images/create
POST /images/prune
POST /images/{name:path}/push
POST /images/{name:path}/tag
DELETE /images/{name:path}
POST /commit
POST /build
POST /build/prune
POST /build/cancel
POST /session
POST /grpc
GET /distribution/{name:path}/json
GET /volumes
POST /volumes/create
POST /volumes/prune
GET /volumes/{name}
PUT /volumes/{name}
DELETE /volumes/{name}
GET /networks
POST /networks/create
POST /networks/prune
GET /networks/{id}
DELETE /networks/{id}
POST /networks/{id}/connect
POST /networks/{id}/disconnect
GET /plugins
GET /plugins/privileges
POST /plugins/pull
POST /plugins/create
GET /plugins/{name:path}/json
DELETE /plugins/{name:path}
POST /plugins/{name:path}/enable
POST /plugins/{name:path}/disable
POST /plugins/{name:path}/upgrade
POST /plugins/{name:path}/push
POST /plugins/{name:path}/set
"""

SWARM_OPERATIONS = """
GET /swarm
POST /swarm/init
POST /swarm/join
POST /swarm/leave
POST /swarm/update
GET /swarm/unlockkey
POST /swarm/unlock
GET /nodes
GET /nodes/{id}
DELETE /nodes/{id}
POST /nodes/{id}/update
GET /services
POST /services/create
GET /services/{id}
DELETE /services/{id}
POST /services/{id}/update
GET /services/{id}/logs
GET /tasks
GET /tasks/{id}
GET /tasks/{id}/logs
GET /secrets
POST /secrets/create
GET /secrets/{id}
DELETE /secrets/{id}
POST /secrets/{id}/update
GET /configs
POST /configs/create
GET /configs/{id}
DELETE /configs/{id}
POST /configs/{id}/update
"""

NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
NOT_PART_OF_A_SWARM = "This node is not part of a swarm"


async def _plugins(_request: Request, _engine: Any) -> Response:
    return json_response([])  # there are none, and there is no plugin system


async def _swarm(_request: Request, _engine: Any) -> Response:
    raise Unavailable(NOT_A_MANAGER)


async def _leave_swarm(_request: Request, _engine: Any) -> Response:
    raise Unavailable(NOT_PART_OF_A_SWARM)


def _not_done(operation: str) -> Route:
    async def refuse(_request: Request, _engine: Any) -> Response:
        raise Unsupported(f"{operation} is not supported by this engine")

    method, pattern = operation.split()
    return Route(method, pattern, refuse)


def _no_swarm(operation: str) -> Route:
    method, pattern = operation.split()
    if operation in ("POST /swarm/init", "POST /swarm/join"):
        return _not_done(operation)
    return Route(method, pattern, _leave_swarm if operation == "POST /swarm/leave" else _swarm)


def all_routes() -> list[Route]:
    """Ours first; then what docker has and we do not."""
    routes: list[Route] = []
    for name in HANDLERS:
        if find_spec(f"corten.api.{name}") is not None:
            routes += import_module(f"corten.api.{name}").ROUTES
    routes.append(Route("GET", "/plugins", _plugins))
    routes += [_not_done(line) for line in OPERATIONS.split("\n") if line]  # the router keeps the first of each
    routes += [_no_swarm(line) for line in SWARM_OPERATIONS.split("\n") if line]
    return routes


def build_router() -> Router:
    """The router of the daemon."""
    return Router(all_routes())
