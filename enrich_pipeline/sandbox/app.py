"""The web application: the providers' paths, the admin pages, start and stop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from .admin import Admin
from .agntdata import Agntdata
from .apollo import Apollo
from .config import SandboxConfig
from .lance import Lance
from .pronto import Pronto
from .prospeo import Prospeo
from .serving import TRANSPORT, Provider, routes
from .world import World


class Sandbox(Starlette):
    """Starlette that remembers the connection of each request, so that a fault can drop it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Under uvicorn `send` is a method of the object that holds the connection; ASGI has no
        # documented way to close one without an answer.
        scope[TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
        await super().__call__(scope, receive, send)


def create_app(config: SandboxConfig) -> Starlette:
    """The five providers and the admin pages over one fresh state.

    Raises:
        ValueError, OSError: the directory files cannot be used.
    """
    world = World(config)
    providers: list[Provider] = [
        Agntdata(world), Pronto(world), Prospeo(world), Lance(world), Apollo(world),
    ]  # fmt: skip
    for provider in providers:
        provider.reset()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await world.courier.stop()
        world.meter.close()

    paths = [route for provider in providers for route in routes(provider)]
    return Sandbox(routes=[*paths, *Admin(world, providers).routes()], lifespan=lifespan)


def run(config: SandboxConfig) -> None:
    """Serves until interrupted."""
    uvicorn.run(
        create_app(config),
        host=config.host,
        port=config.port,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
    )
