// Anthropic's Node client: a message, a stream, a tool, a picture.
import Anthropic from "@anthropic-ai/sdk";

const model = process.env.MODEL ?? "demo";
const client = new Anthropic({ baseURL: process.env.GATEWAY ?? "http://127.0.0.1:8000", apiKey: process.env.KEY });
const data = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const user = (content) => ({ role: "user", content });
const ask = (messages, more = {}) => client.messages.create({ model, max_tokens: 200, messages, ...more });

console.log("message:", (await ask([user("Hello")])).content[0].text);

const stream = client.messages.stream({ model, max_tokens: 200, messages: [user("Hello again")] });
console.log("stream:", await stream.finalText());

const input_schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ name: "weather", description: "The weather in a city", input_schema }];
const asked = await ask([user("Paris")], { tools });
const call = asked.content.find((block) => block.type === "tool_use");
console.log("tool:", call.name, call.input);
const result = { type: "tool_result", tool_use_id: call.id, content: "sunny" };
const conversation = [user("Paris"), { role: "assistant", content: asked.content }, user([result])];
console.log("with its result:", (await ask(conversation, { tools })).content[0].text);

const source = { type: "base64", media_type: "image/png", data };
const picture = [{ type: "text", text: "What is this?" }, { type: "image", source }];
console.log("picture:", (await ask([user(picture)])).content[0].text);
