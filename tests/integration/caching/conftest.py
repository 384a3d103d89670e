"""A house, an account of it, and a folder of that account."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from server.domain.accounts import Caller
from server.services.publishing import keep_snapshot
from tests.caching import House
from tests.packages import an_archive
from tests.standins.model_server import model_server


@pytest.fixture
async def house(db: asyncpg.Pool) -> AsyncIterator[House]:
    async with model_server() as server:
        house = House(db, server)
        yield house
        await house.models.aclose()


@pytest.fixture
async def alice(house: House) -> Caller:
    return await house.an_account()


@pytest.fixture
async def snapshot(house: House, alice: Caller) -> str:
    """Of a working folder of alice's."""
    return (await keep_snapshot(house.db, alice, archive=an_archive())).snapshot_id
