"""Anthropic's Python client: a message, a stream, a tool, a picture."""

import os

from anthropic import Anthropic

MODEL = os.environ.get("MODEL", "demo")
client = Anthropic(base_url=os.environ.get("GATEWAY", "http://127.0.0.1:8000"), api_key=os.environ["KEY"])
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def ask(content, **more):
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    return client.messages.create(model=MODEL, max_tokens=200, messages=messages, **more)


print("message:", ask("Hello").content[0].text)

with client.messages.stream(
    model=MODEL, max_tokens=200, messages=[{"role": "user", "content": "Hello again"}]
) as stream:
    print("stream:", "".join(stream.text_stream))

tools = [
    {
        "name": "weather",
        "description": "The weather in a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
asked = ask("Paris", tools=tools)
call = next(block for block in asked.content if block.type == "tool_use")
print("tool:", call.name, call.input)
result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
conversation = [
    {"role": "user", "content": "Paris"},
    {"role": "assistant", "content": asked.content},
    {"role": "user", "content": [result]},
]
print("with its result:", ask(conversation, tools=tools).content[0].text)

source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
picture = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
print("picture:", ask([{"role": "user", "content": picture}]).content[0].text)
