"""The four safeguards, each switched off from outside: the harness must see it, or it proves nothing."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from chaos.site import SiteOptions

# Every variant runs on the same harness; only what would tear its gap open is thrown at it.
WITHOUT_LEDGER = """
DROP INDEX usage_ledger_acceptance;
DROP INDEX usage_ledger_refund;
"""

WITHOUT_IDEMPOTENCY = """
CREATE FUNCTION chaos.forget_key() RETURNS TRIGGER AS $$
BEGIN
  NEW.key := NEW.key || GEN_RANDOM_UUID();
  RETURN NEW;
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER chaos_forget_key BEFORE INSERT ON submissions FOR EACH ROW EXECUTE FUNCTION chaos.forget_key();
"""

WITHOUT_SWEEP = """
CREATE FUNCTION chaos.leave_expired() RETURNS TRIGGER AS $$
BEGIN
  RETURN NULL;  -- the update of this row is left out
END;
$$ LANGUAGE plpgsql;
CREATE TRIGGER chaos_leave_expired BEFORE UPDATE ON test_jobs FOR EACH ROW
WHEN (OLD.status = 'running' AND NEW.lease_until IS NULL AND OLD.lease_until < CLOCK_TIMESTAMP())
EXECUTE FUNCTION chaos.leave_expired();
"""


class Variant(Struct, frozen=True, kw_only=True):
    """`statements` are run before the service starts. One of `seen_by` must be among the findings."""

    faults: Mapping[str, int]
    seen_by: tuple[str, ...]
    statements: str = ""
    most_milliseconds: int = 500  # that the model takes for a case
    options: SiteOptions = SiteOptions()


VARIANTS: Mapping[str, Variant] = {
    "fence": Variant(
        faults={"worker woken up beside its heir": 4, "worker cut off from PostgreSQL": 1},
        seen_by=("V5 no trial is stored under an old fence", "V5 only the holder"),
        most_milliseconds=3000,  # so that whoever wakes up, and the heir, are in the middle of the job
        options=SiteOptions(worker_module=("chaos.unfenced_worker",)),
    ),
    "sweep": Variant(faults={"worker kill -9": 4}, seen_by=("V2",), statements=WITHOUT_SWEEP),
    "ledger": Variant(faults={"ledger entry written again": 4}, seen_by=("V3", "V4"), statements=WITHOUT_LEDGER),
    "idempotency": Variant(
        faults={"API kill -9": 1, "COMMIT answer dropped": 3}, seen_by=("V10",), statements=WITHOUT_IDEMPOTENCY
    ),
}
