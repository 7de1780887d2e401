// What both peers of Node share: arguments and seconds as in fer/worker.py, TensorFlow.js on WASM
// (which installs without compiling), and packages from the folder that NODE_PATH names.

const fs = require('fs');
const path = require('path');

const SIDE = 48, WARM = 10, PHOTOS = 5;

/** CPU milliseconds of this process so far, all threads. */
function cpu() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** The folder of an installed package. */
const folder = (name) => path.join(process.env.NODE_PATH, name);

/** The folder of the WASM binaries, as the backend wants it. */
const binaries = () => path.join(folder('@tensorflow/tfjs-backend-wasm'), 'wasm-out') + path.sep;

/** float [[C scores]] and milliseconds a face; ask(tensor of int32 48 x 48 x 3) gives C scores. */
async function faces(tf, ask, pixels) {
  const bytes = fs.readFileSync(pixels), size = SIDE * SIDE, scores = [];
  const one = async (number) => {
    const gray = tf.tensor(bytes.subarray(number * size, (number + 1) * size), [SIDE, SIDE, 1], 'int32');
    const picture = tf.tile(gray, [1, 1, 3]);
    const answer = await ask(picture);
    tf.dispose([gray, picture]);
    return Array.from(answer, (value) => Math.round(1e5 * value) / 1e5);
  };
  const n = bytes.length / size;
  for (let number = 0; number < Math.min(WARM, n); number++) await one(number);
  const began = cpu();
  for (let number = 0; number < n; number++) scores.push(await one(number));
  return { scores, cpu_ms: (cpu() - began) / n };
}

/** How many faces are found, and milliseconds a photo; look(tensor of int32 H x W x 3) gives them. */
async function photo(tf, look, pixels) {
  const bytes = fs.readFileSync(pixels), side = Math.round(Math.sqrt(bytes.length / 3));
  const picture = tf.tensor(bytes, [side, side, 3], 'int32');
  let found = await look(picture);
  const began = cpu();
  for (let times = 0; times < PHOTOS; times++) found = await look(picture);
  return { found: found.length, cpu_ms: (cpu() - began) / PHOTOS };
}

/** Run a worker; load() gives {tf, labels, ask, look}. */
async function run(load) {
  const [kind, pixels, out] = process.argv.slice(2);
  const { tf, labels, ask, look } = await load();
  const made = kind === 'faces' ? await faces(tf, ask, pixels) : await photo(tf, look, pixels);
  fs.writeFileSync(out, JSON.stringify({ labels, ...made }));
  process.exit(0); // a server or a pool of threads may still be open
}

module.exports = { binaries, folder, run };
