"""LangChain's ChatOpenAI: chat, a stream, a tool, a picture, structured output."""

import os

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

GATEWAY = os.environ.get("GATEWAY", "http://127.0.0.1:8000")
model = ChatOpenAI(model=os.environ.get("MODEL", "demo"), base_url=GATEWAY + "/v1", api_key=os.environ["KEY"])
PIXEL = "data:image/png;base64,"
PIXEL += "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


class Place(BaseModel):
    """A city."""

    city: str
    population: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return "sunny"


print("chat:", model.invoke("Hello").content)
print("stream:", "".join(str(chunk.content) for chunk in model.stream("Hello again")))

with_tools = model.bind_tools([weather])
asked = with_tools.invoke("Paris")
call = asked.tool_calls[0]
print("tool:", call["name"], call["args"])
result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
print("with its result:", with_tools.invoke([HumanMessage("Paris"), asked, result]).content)

picture = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
print("picture:", model.invoke([HumanMessage(picture)]).content)
print("structured:", model.with_structured_output(Place).invoke("Berlin").city)
