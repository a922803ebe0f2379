"""What every handler of a gateway needs besides its call."""

from dataclasses import dataclass

from slipway.gateway.admission import Admission
from slipway.gateway.bound_ids import BoundIds
from slipway.gateway.breakers import Breakers
from slipway.gateway.cache import AnswerCache
from slipway.gateway.intake import Intake
from slipway.gateway.ledger import Ledger
from slipway.gateway.metrics import Counts
from slipway.gateway.shadows import Shadows
from slipway.models.patience import RetryBudget
from slipway.upstream.client import HttpClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Handles of one worker."""

    http: HttpClient
    admission: Admission
    ledger: Ledger
    intake: Intake
    counts: Counts
    budget: RetryBudget
    cache: AnswerCache
    breakers: Breakers
    shadows: Shadows
    ids: BoundIds
