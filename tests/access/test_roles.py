"""Roles: every cell of the table, written out once more by hand."""

import pytest

from slipway.access.roles import ACTIONS, PERMISSIONS, Action, allows, require
from slipway.domain.access import Role
from slipway.domain.errors import RoleMissing

#                        viewer  member  admin
TABLE: dict[str, tuple[bool, bool, bool]] = {
    "see_results": (True, True, True),
    "see_content": (False, True, True),
    "give_feedback": (True, True, True),
    "review": (False, True, True),
    "sign_off": (False, True, True),
    "edit_prompt": (False, True, True),
    "build_index": (False, True, True),
    "run_evaluation": (False, True, True),
    "run_training": (False, True, True),
    "cut_release": (False, True, True),
    "promote_release": (False, True, True),
    "force_release": (False, False, True),
    "export_person": (False, False, True),
    "erase_person": (False, False, True),
    "manage_keys": (False, False, True),
    "see_audit": (False, False, True),
    "change_settings": (False, False, True),
}
ROLES: tuple[Role, ...] = ("viewer", "member", "admin")
CELLS = [
    pytest.param(role, action, allowed, id=f"{role} {'may' if allowed else 'may not'} {action.replace('_', ' ')}")
    for action, row in TABLE.items()
    for role, allowed in zip(ROLES, row, strict=True)
]


def test_the_table_is_whole() -> None:
    assert set(TABLE) == set(ACTIONS)
    assert set(PERMISSIONS) == set(ROLES)


@pytest.mark.parametrize(("role", "action", "allowed"), CELLS)
def test_cell(role: Role, action: Action, allowed: bool) -> None:
    assert allows(role, action) is allowed
    if allowed:
        require(role, action)
    else:
        with pytest.raises(RoleMissing, match=f"'{action}' needs the role"):
            require(role, action)


@pytest.mark.parametrize("action", ACTIONS)
def test_nobody_may_do_nothing(action: Action) -> None:
    assert not allows(None, action)
    with pytest.raises(RoleMissing, match="this is nobody"):
        require(None, action)
