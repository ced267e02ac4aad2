"""All claims, in the order in which ``docs/claims.md`` tells them."""

from __future__ import annotations

from bench.claims import checks, cost, depth, optimisation, regularisation, transfer
from bench.claims.claim import Claim

CLAIMS: tuple[Claim, ...] = (
    *regularisation.CLAIMS,
    *optimisation.CLAIMS,
    *depth.CLAIMS,
    *transfer.CLAIMS,
    *cost.CLAIMS,
    *checks.CLAIMS,
)
