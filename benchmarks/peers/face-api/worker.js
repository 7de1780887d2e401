// What @vladmandic/face-api makes of faces and of a photo, as its README says for Node and WASM.
// The network takes a face cut out as it is: predictExpressions enlarges and normalises it itself.
// On a photo: SSD MobileNet, the package's first detector, then the expressions of what it finds.

const path = require('path');
const { binaries, folder, run } = require('../node.js');

run(async () => {
  const tf = require('@tensorflow/tfjs');
  require('@tensorflow/tfjs-backend-wasm').setWasmPaths(binaries());
  await tf.setBackend('wasm');
  await tf.ready();
  const faceapi = require('@vladmandic/face-api/dist/face-api.node-wasm.js');
  const { faceExpressionNet, ssdMobilenetv1 } = faceapi.nets;
  const models = path.join(folder('@vladmandic/face-api'), 'model');
  await faceExpressionNet.loadFromDisk(models);
  await ssdMobilenetv1.loadFromDisk(models);
  const labels = ['neutral', 'happy', 'sad', 'angry', 'fearful', 'disgusted', 'surprised'];
  return {
    tf,
    labels,
    ask: async (face) => {
      const answer = await faceExpressionNet.predictExpressions(face);
      return labels.map((label) => answer[label]);
    },
    look: (picture) => faceapi
      .detectAllFaces(picture, new faceapi.SsdMobilenetv1Options()).withFaceExpressions(),
  };
});
