"""OpenAI's Python client: chat, a stream, a tool, a picture, structured output."""

import json
import os

from openai import OpenAI
from pydantic import BaseModel

MODEL = os.environ.get("MODEL", "demo")
client = OpenAI(base_url=os.environ.get("GATEWAY", "http://127.0.0.1:8000") + "/v1", api_key=os.environ["KEY"])
PIXEL = "data:image/png;base64,"
PIXEL += "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


class Place(BaseModel):
    city: str
    population: int


answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
print("chat:", answer.choices[0].message.content)

stream = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello again"}], stream=True)
print("stream:", "".join(chunk.choices[0].delta.content or "" for chunk in stream))

tools = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
messages = [{"role": "user", "content": "Paris"}]
asked = client.chat.completions.create(model=MODEL, messages=messages, tools=tools).choices[0].message
call = asked.tool_calls[0]
print("tool:", call.function.name, json.loads(call.function.arguments))
messages += [asked, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
told = client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
print("with its result:", told.choices[0].message.content)

picture = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
seen = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": picture}])
print("picture:", seen.choices[0].message.content)

parsed = client.chat.completions.parse(
    model=MODEL, messages=[{"role": "user", "content": "Berlin"}], response_format=Place
)
print("structured:", parsed.choices[0].message.parsed.city)
