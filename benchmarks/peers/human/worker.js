// What @vladmandic/human makes of faces and of a photo, in Node on WASM, with its own emotion model.
// The package has no call for a face that is cut out already. So its model is asked with the
// package's own preparation (src/gear/emotion.ts): 64 x 64, gray by weights, from -1 to 1. On a
// photo it works as it does by itself, with nothing on but finding faces and their emotion.

const fs = require('fs');
const http = require('http');
const path = require('path');
const { binaries, folder, run } = require('../node.js');

const SIDE = 64, GRAY = [0.2989, 0.587, 0.114];
const off = { enabled: false };

/** Serve the package's models on loopback: its WASM build fetches them, and Node fetches no files. */
function served() {
  const models = path.join(folder('@vladmandic/human'), 'models');
  const server = http.createServer((request, response) => {
    response.end(fs.readFileSync(path.join(models, path.basename(request.url))));
  });
  return new Promise((done) => {
    server.listen(0, '127.0.0.1', () => done(`http://127.0.0.1:${server.address().port}/`));
  });
}

run(async () => {
  // by its path: what package.json names for it is not valid
  const { Human } = require(path.join(folder('@vladmandic/human'), 'dist/human.node-wasm.js'));
  const human = new Human({
    backend: 'wasm',
    wasmPath: binaries(),
    modelBasePath: await served(),
    cacheSensitivity: 0, // or the same photo would not be looked at again
    face: { mesh: off, iris: off, description: off, emotion: { enabled: true } },
    body: off,
    hand: off,
    object: off,
    gesture: off,
  });
  await human.load();
  const { tf } = human, model = human.models.models.emotion;
  return {
    tf,
    labels: ['angry', 'disgust', 'fear', 'happy', 'sad', 'surprise', 'neutral'],
    ask: async (face) => {
      const scores = tf.tidy(() => {
        const unit = tf.div(tf.expandDims(tf.cast(face, 'float32'), 0), 255);
        const large = tf.image.resizeBilinear(unit, [SIDE, SIDE], false);
        const gray = tf.sum(tf.mul(large, tf.tensor1d(GRAY)), 3, true);
        return model.execute(tf.mul(tf.sub(gray, 0.5), 2));
      });
      const answer = await scores.data();
      tf.dispose(scores);
      return answer;
    },
    look: async (picture) => (await human.detect(picture)).face,
  };
});
