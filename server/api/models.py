"""`/api/v1/models`: what a package can be tested on."""

from __future__ import annotations

from litestar import get
from msgspec import Struct

from evals.catalogue import ModelInfo
from server.api.context import Site
from server.api.errors import refusals


class ModelsAnswer(Struct, kw_only=True):
    models: list[ModelInfo]


@get("/api/v1/models", tags=["Models"], summary="Which models are there?", responses=refusals())
async def list_models(site: Site) -> ModelsAnswer:
    """Names, prices in USD per million tokens, whether they can be reached, and what replaced retired ones."""
    return ModelsAnswer(models=[model.as_people_see_it() for model in await site.models.read()])


handlers = [list_models]
