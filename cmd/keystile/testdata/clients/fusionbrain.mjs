// The whole use of fusionbrain-api, as its readme shows it. Prints what came of each call as one line of JSON.
import { FusionBrain, FusionBrainError, FusionBrainErrorCode } from "fusionbrain-api";
import { setTimeout } from "node:timers/promises";

const { BASE_URL, KEY, SECRET } = process.env;
const client = new FusionBrain(KEY, SECRET, BASE_URL);

// attempt returns what a call gave, or the error that the client made of a refusal.
async function attempt(call) {
  try {
    return { value: await call() };
  } catch (error) {
    if (!(error instanceof FusionBrainError)) throw error;
    return { error: { name: error.constructor.name, code: FusionBrainErrorCode[error.code], message: error.message } };
  }
}

// finished asks until the picture is there, which can be fetched once.
async function finished(uuid) {
  for (;;) {
    const task = await client.checkTask(uuid);
    if (task.isFinished()) return task;
    await setTimeout(20);
  }
}

const models = await attempt(() => client.getModels());
const model = models.value?.[0].id ?? 4;
const ready = await attempt(() => client.isReady(model, true));
const generation = await attempt(() => client.generate(model, "a lighthouse at dawn", { width: 512, height: 384 }));
const uuid = generation.value?.task.uuid ?? "6fe0ecf0-5d3c-4f0c-9d0b-1f3d8c1a2b3c";
const task = await attempt(() => finished(uuid));
const again = await attempt(() => client.checkTask(uuid));
console.log(JSON.stringify({ models, ready, generation, task, again }));
