"""Money that jobs spend. In a process it is whole nano-USD, in the database NUMERIC(14, 6) USD."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

from msgspec import Struct

NANO = 1_000_000_000
_MICRO = Decimal("0.000001")


class MoneyWish(Struct, frozen=True, kw_only=True):
    """What a running job tells about its money, and asks of its month. Nano-USD.

    `spent` is all that the job has cost, `reserved` what its calls under way may cost at most. `needed` and `wanted`
    are what it would hold: at least for the next call, and better for some more. Both include `reserved`.
    """

    spent: int
    reserved: int
    needed: int
    wanted: int


class MoneyHeld(Struct, frozen=True, kw_only=True):
    """What the month answered. `held`: nano-USD that the job may spend beyond what it has told.

    `others_hold`: other jobs hold money that they may yet give back.
    """

    held: int
    is_granted: bool
    others_hold: bool


def nano_usd(amount: float | Decimal) -> int:
    """The nearest whole number of nano-USD."""
    return int((Decimal(str(amount)) * NANO).to_integral_value(ROUND_HALF_EVEN))


def booked_usd(nano: int) -> Decimal:
    """As the database books it: the nearest micro-USD."""
    return (Decimal(nano) / NANO).quantize(_MICRO, ROUND_HALF_EVEN)


def reserved_usd(nano: int) -> Decimal:
    """As the database reserves it: micro-USD, rounded up."""
    return (Decimal(nano) / NANO).quantize(_MICRO, ROUND_CEILING)
