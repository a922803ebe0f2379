"""Lints a prompt by all rules of the folder `rules/`, and mends what can be mended safely."""

from collections.abc import Sequence

from slipway.domain.errors import PromptInvalid
from slipway.domain.prompt import LintFinding, Prompt, Severity
from slipway.prompt.files import with_hash
from slipway.prompt.rules.base import Rule, rules
from slipway.prompt.template import variables_of

_WEIGHT: dict[Severity, int] = {"error": 0, "warning": 1, "hint": 2}


def lint(prompt: Prompt, *, only: Sequence[str] = ()) -> list[LintFinding]:
    """Findings of all rules, or of those named in `only`: errors first, then by place. Raises `UnknownBackend`.

    A template that cannot be parsed gives one error and nothing else.
    """
    try:
        variables_of(prompt)
    except PromptInvalid as wrong:
        place = "system" if wrong.place.startswith("system") else "user"
        text = prompt.system if place == "system" else prompt.user
        return [
            LintFinding(
                rule="template",
                practice="sound",
                severity="error",
                place=place,
                start=0,
                end=len(text),
                reason=f"{wrong.place}: {wrong.reason}",
            )
        ]
    found = [finding for rule in _rules(only) for finding in rule.look(prompt)]
    return sorted(found, key=lambda one: (_WEIGHT[one.severity], one.place, one.start, one.rule))


def fix(prompt: Prompt, *, only: Sequence[str] = ()) -> Prompt:
    """The prompt with everything mended that a rule can mend safely. Its hash is new where its content is."""
    try:
        variables_of(prompt)
    except PromptInvalid:
        return prompt
    for rule in _rules(only):
        prompt = rule.fix(prompt)
    return with_hash(prompt, variables=prompt.variables)


def _rules(only: Sequence[str]) -> list[Rule]:
    return [rules.make(name) for name in only or rules.names()]
