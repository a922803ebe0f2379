"""Sign-offs: the word of a role on a release; dissent is kept beside what was decided later."""

from slipway.domain.errors import ReviewInvalid, RoleUnknown
from slipway.domain.ids import new_id
from slipway.domain.release import Release
from slipway.domain.review import SignOff
from slipway.release.evidence import list_signoffs
from slipway.workspace import Workspace


def sign(
    workspace: Workspace, release: Release, *, role: str, person: str, approve: bool = True, note: str = ""
) -> SignOff:
    """One more word on a release; the newest of a role counts at the gate, earlier ones stay.

    A rejection has to say why. Raises `RoleUnknown` for a role that [review] roles does not name, `ReviewInvalid`.
    """
    roles = workspace.settings.review.roles
    if role not in roles:
        raise RoleUnknown(role, roles)
    if not person.strip():
        raise ReviewInvalid("A sign-off needs the name of who signs: --person NAME")
    if not approve and not note.strip():
        raise ReviewInvalid("A rejection needs its reason, so that somebody can act on it: --note TEXT")
    signed = SignOff(
        id=new_id(),
        release=release.id,
        role=role,
        person=person.strip(),
        decision="approve" if approve else "reject",
        note=note.strip(),
        created_at=workspace.now(),
    )
    workspace.store.records.save(signed, parents=[("release", release.id)])
    return signed


def dissent(workspace: Workspace, release: Release) -> list[SignOff]:
    """Every rejection that a later approval of the same role went over, newest first."""
    signed = list_signoffs(workspace, release)
    return [
        word
        for at, word in enumerate(signed)
        if word.decision == "reject"
        and any(later.role == word.role and later.decision == "approve" for later in signed[:at])
    ]
