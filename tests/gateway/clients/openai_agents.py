"""OpenAI's Agents SDK as it comes, with its default model over the Responses API: what came of each way to use it.

Called with the base URL of the API, a key, and the name of a model. Prints one JSON object.
"""

import asyncio
import json
import sys

import openai
from agents import (
    Agent,
    CodeInterpreterTool,
    HostedMCPTool,
    ModelSettings,
    Runner,
    WebSearchTool,
    function_tool,
    set_default_openai_client,
    set_tracing_disabled,
)

API, KEY, MODEL = sys.argv[1:4]


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"12 celsius in {city}"


async def main() -> dict[str, object]:
    set_default_openai_client(openai.AsyncOpenAI(base_url=API, api_key=KEY, max_retries=0))
    set_tracing_disabled(True)
    found: dict[str, object] = {}
    clerk = Agent(name="clerk", instructions="You are brief.", model=MODEL)
    first = await Runner.run(clerk, "one")
    second = await Runner.run(clerk, "two", previous_response_id=first.last_response_id)
    third = Runner.run_streamed(clerk, "three", previous_response_id=second.last_response_id)
    kinds = [event.data.type async for event in third.stream_events() if event.type == "raw_response_event"]
    found["turns"] = [first.final_output, second.final_output, third.final_output]
    found["streamed"] = [kinds[0], kinds[-1]]
    usage = second.context_wrapper.usage
    found["usage"] = [usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens]

    forecaster = Agent(name="forecaster", model=MODEL, tools=[weather])
    asked = await Runner.run(forecaster, "the weather in Paris?", auto_previous_response_id=True)
    found["function"] = [asked.final_output, [type(item).__name__ for item in asked.new_items]]

    front = Agent(name="front", model=MODEL, handoffs=[Agent(name="expert", model=MODEL)])
    handed = await Runner.run(front, "help me")
    found["handoff"] = handed.last_agent.name

    settings = ModelSettings(store=False, response_include=["reasoning.encrypted_content"], reasoning={"effort": "low"})
    hosted = [
        WebSearchTool(),
        CodeInterpreterTool(tool_config={"type": "code_interpreter", "container": {"type": "auto"}}),
        HostedMCPTool(tool_config={"type": "mcp", "server_label": "docs", "server_url": "https://docs.example"}),
    ]
    researcher = Agent(name="researcher", model=MODEL, tools=[WebSearchTool()], model_settings=settings)
    searched = await Runner.run(researcher, "look it up")
    again = await Runner.run(researcher, [*searched.to_input_list(), {"role": "user", "content": "and once more"}])
    found["hosted"] = [
        again.final_output,
        [getattr(item.raw_item, "type", None) for item in searched.new_items],
        searched.new_items[0].raw_item.encrypted_content,
    ]
    all_at_once = Agent(name="all", model=MODEL, tools=hosted)
    streamed = Runner.run_streamed(all_at_once, "look it up")
    async for _ in streamed.stream_events():
        pass
    found["all hosted"] = [getattr(item.raw_item, "type", None) for item in streamed.new_items]
    return found


print(json.dumps(asyncio.run(main())))
