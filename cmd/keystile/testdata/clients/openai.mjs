// Calls of the openai SDK with nothing but a base URL and a secret. The arguments name the calls; what came of each is
// printed as one JSON object on one line.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.BASE_URL}/v1`, apiKey: process.env.SECRET });
const once = { maxRetries: 0 };
const messages = [{ role: "user", content: "Tell me about lighthouses" }];

const calls = {
  models: async () => (await client.models.list(once)).data.map((model) => model.id),
  image: async () => (await client.images.generate({ prompt: "a lighthouse at dawn", size: "512x512" }, once)).data[0].b64_json,
  chat: async () => (await client.chat.completions.create({ model: "sample-text", messages }, once)).choices[0].message.content,
  stream: async () => {
    const words = [];
    for await (const chunk of await client.chat.completions.create({ model: "sample-text", messages, stream: true }, once)) {
      words.push(chunk.choices[0].delta.content ?? "");
    }
    return words;
  },
  speech: async () => {
    const answer = await client.audio.speech.create(
      { model: "sample-speech", voice: "alloy", input: "Good morning", response_format: "wav" },
      once,
    );
    return Buffer.from(await answer.arrayBuffer()).toString("base64");
  },
  // As the SDK comes: it repeats, up to twice, what it thinks is worth it.
  persistent: async () => (await client.chat.completions.create({ model: "sample-text", messages })).choices[0].message.content,
};

const results = [];
for (const name of process.argv.slice(2)) {
  try {
    results.push({ value: await calls[name]() });
  } catch (error) {
    const { status, code, type, message, requestID } = error;
    results.push({ error: { name: error.constructor.name, status, code, type, message, requestID } });
  }
}
console.log(JSON.stringify(results));
