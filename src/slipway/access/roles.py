"""Roles and what each may do: one table, which the pages, the API and the tests read."""

from typing import Literal, get_args

from slipway.domain.access import Role
from slipway.domain.errors import RoleMissing

Action = Literal[
    "see_results",
    "see_content",
    "give_feedback",
    "review",
    "sign_off",
    "edit_prompt",
    "build_index",
    "run_evaluation",
    "run_training",
    "cut_release",
    "promote_release",
    "force_release",
    "export_person",
    "erase_person",
    "manage_keys",
    "see_audit",
    "change_settings",
]
ACTIONS: tuple[Action, ...] = get_args(Action)

_MEMBER: frozenset[Action] = frozenset(
    {
        "see_results",
        "see_content",
        "give_feedback",
        "review",
        "sign_off",
        "edit_prompt",
        "build_index",
        "run_evaluation",
        "run_training",
        "cut_release",
        "promote_release",
    }
)
PERMISSIONS: dict[Role, frozenset[Action]] = {
    # A viewer sees numbers and verdicts, not what people wrote.
    "viewer": frozenset({"see_results", "give_feedback"}),
    "member": _MEMBER,
    "admin": frozenset(ACTIONS),
}


def allows(role: Role | None, action: Action) -> bool:
    """Whether somebody with this role may do this; nobody without a role may do anything."""
    return role is not None and action in PERMISSIONS[role]


def require(role: Role | None, action: Action) -> None:
    """Raises `RoleMissing` when the role does not allow the action."""
    if not allows(role, action):
        needed = next(name for name in PERMISSIONS if action in PERMISSIONS[name])
        raise RoleMissing(action, role or "nobody", needed)
