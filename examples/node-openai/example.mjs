// OpenAI's Node client: chat, a stream, a tool, a picture, structured output.
import OpenAI from "openai";

const model = process.env.MODEL ?? "demo";
const client = new OpenAI({
  baseURL: (process.env.GATEWAY ?? "http://127.0.0.1:8000") + "/v1",
  apiKey: process.env.KEY,
});
const pixel =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const ask = async (content, more = {}) => {
  const messages = Array.isArray(content) && content[0].role ? content : [{ role: "user", content }];
  return (await client.chat.completions.create({ model, messages, ...more })).choices[0].message;
};

console.log("chat:", (await ask("Hello")).content);

let streamed = "";
const messages = [{ role: "user", content: "Hello again" }];
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  streamed += chunk.choices[0].delta.content ?? "";
}
console.log("stream:", streamed);

const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", description: "The weather in a city", parameters } }];
const asked = await ask("Paris", { tools });
const call = asked.tool_calls[0];
console.log("tool:", call.function.name, JSON.parse(call.function.arguments));
const result = { role: "tool", tool_call_id: call.id, content: "sunny" };
console.log("with its result:", (await ask([{ role: "user", content: "Paris" }, asked, result], { tools })).content);

const picture = [{ type: "text", text: "What is this?" }, { type: "image_url", image_url: { url: pixel } }];
console.log("picture:", (await ask(picture)).content);

const response_format = { type: "json_schema", json_schema: { name: "place", schema: parameters } };
console.log("structured:", JSON.parse((await ask("Berlin", { response_format })).content).city);
