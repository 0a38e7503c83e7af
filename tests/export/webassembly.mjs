// webassembly.mjs MODULES BUNDLE LONGEST: which vectors of conformance.json onnxruntime-web gives to the bit.
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [modules, bundle, longest] = process.argv.slice(2);
const ort = await import(
  pathToFileURL(`${modules}/node_modules/onnxruntime-web/dist/ort.node.min.mjs`)
);
ort.env.wasm.numThreads = 1;
const read = (name) => readFileSync(`${bundle}/${name}`);
const session = await ort.InferenceSession.create(new Uint8Array(read('model.onnx')), {
  executionProviders: ['wasm'],
  externalData: [{ path: 'model.onnx.data', data: new Uint8Array(read('model.onnx.data')) }],
  logSeverityLevel: 3,
});

async function encode(ids) {
  const shape = [1, ids.length];
  const feed = {
    input_ids: new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), shape),
    attention_mask: new ort.Tensor('int64', new BigInt64Array(ids.length).fill(1n), shape),
  };
  return (await session.run(feed)).weights.data;
}

const { cases } = JSON.parse(read('conformance.json'));
const differing = [];
let checked = 0;
for (const [number, { document }] of cases.entries()) {
  if (document.term_ids.length === 0 || document.ids.length > longest) continue;
  const weights = await encode(document.ids);
  const expected = new Map(document.term_ids.map((id, i) => [id, Math.fround(document.weights[i])]));
  if (!weights.every((weight, id) => weight === (expected.get(id) ?? 0))) differing.push(number);
  checked += 1;
}
console.log(JSON.stringify({ checked, differing, release: ort.env.versions.web }));
