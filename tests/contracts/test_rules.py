"""What every lint rule promises."""

from datetime import UTC, datetime

import pytest

from slipway.domain.prompt import Prompt
from slipway.prompt.files import parse_prompt
from slipway.prompt.rules.base import rules

PROMPTS = {
    "empty": "# user\n\n",
    "one word": "# user\nAnswer.\n",
    "full of faults": (
        "---\nvariables: [a, unused]\noutput_schema: {type: object}\n"
        "examples: [{input: x, output: y}, {input: x, output: ''}]\n---\n"
        "# system\nPLEASE TRY HARD to be brief and detailed!! Use {{ context }} etc.\n"
        "# user\nPlease {{ question }} {% if a %}in order to{% endif %} {% for p in ps %}{{ p }}{% endfor %}\n"
    ),
    "other scripts": "# system\n回答问题。\n# user\n{{ question }} ❤ ﷽\n",
}


def prompt(text: str) -> Prompt:
    return parse_prompt(text, name="x", created_at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("name", rules.names())
@pytest.mark.parametrize("text", PROMPTS.values(), ids=PROMPTS.keys())
def test_a_rule_names_places_inside_the_prompt_and_fixes_what_it_calls_fixable(name: str, text: str) -> None:
    rule = rules.make(name)
    looked_at = prompt(text)
    places = {"system": looked_at.system, "user": looked_at.user, "output_schema": looked_at.output_schema}
    places["variables"] = ""
    for number, example in enumerate(looked_at.examples):
        places[f"examples[{number}]"] = example.input + example.output
        places[f"examples[{number}].output"] = example.output
    for finding in rule.look(looked_at):
        assert finding.rule == name
        assert finding.practice == rule.practice
        assert 0 <= finding.start <= finding.end <= len(places[finding.place])
        assert finding.reason
        assert finding.reason[0].islower() or not finding.reason[0].isalpha()
    fixed = rule.fix(looked_at)
    assert [finding for finding in rule.look(fixed) if finding.fixable] == []
    assert rule.fix(fixed) == fixed
    if not any(finding.fixable for finding in rule.look(looked_at)):
        assert fixed == looked_at


@pytest.mark.parametrize("name", rules.names())
def test_a_rule_has_a_line_of_help(name: str) -> None:
    assert rules.help(name).endswith(".")
