// One call of the Anthropic SDK, which sends its key as x-api-key. Prints what came of it as one line of JSON.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: process.env.BASE_URL, apiKey: process.env.SECRET, maxRetries: 0 });
try {
  const message = await client.messages.create({
    model: "sample-text",
    max_tokens: 16,
    messages: [{ role: "user", content: "Tell me about lighthouses" }],
  });
  console.log(JSON.stringify({ value: message.content[0].text }));
} catch (error) {
  if (!(error instanceof Anthropic.APIError)) throw error;
  const { status, type, error: body } = error;
  console.log(JSON.stringify({ error: { name: error.constructor.name, status, type, code: body?.code } }));
}
