"""Tries to make the service lose a job, charge one twice or end one twice, and says whether it could.

    python -m chaos                      a storm of faults, the four broken variants, the recovery figures
    python -m chaos --kills 200          a long storm
    python -m chaos --broken fence       a storm without one safeguard: must end with exit code 1

Real processes (an API, workers, PostgreSQL, Valkey) run jobs for submitters that keep their own log of what they were
told. `checks.sql` judges the end: every row that it finds is a broken invariant. docs/reliability.md holds the figures.
"""
