// Faces and their expressions without a server: OpenCV's cascade and the network, both in this page. It does what
// ferlab/serving/face_detection.py, predictor.py and data/readers/images.py do, with the same constants.
const { classes: CLASSES, side: FACE, find: FIND, runtime: [RUNTIME, WASM] } = {{ browser.constants | tojson }};
const RECTS = 3;  // of a feature of the cascade, at most
let network = null, cascade = null, tensor = null;

const loaded = (async () => {
  const given = await fetch("cascade.json");
  if (!given.ok) throw new Error(`cascade.json is missing (${given.status}); copy the whole folder`);
  cascade = await given.json();
  const runtime = await import(`./${RUNTIME}`);
  runtime.env.wasm.numThreads = 1;  // more need headers that simple servers do not send
  runtime.env.wasm.wasmPaths = { wasm: new URL(WASM, location.href).href };
  network = await runtime.InferenceSession.create("model.onnx");
  tensor = (faces, count) => new runtime.Tensor("uint8", faces, [count, FACE, FACE, 1]);
})().catch(error => { throw new Error(`the network cannot be loaded: ${error.message}`); });

async function ask(picture, live = 0) {
  if (picture.size > MOST) throw new Error(`the picture: larger than ${MOST >> 20} MB; choose a smaller one`);
  await loaded;
  const map = await createImageBitmap(picture).catch(() => { throw new Error("the picture: not an image that this browser reads"); });
  const { width, height } = map, small = Math.max(width, height) <= FIND.cut_out;
  let seen = look(map, 0), faces = find(seen, FIND.neighbours, live ? FIND.live : FIND.longest), turned = 0, remark = "";
  if (!faces.length && small) {
    const side = Math.max(width, height);
    faces = [{ x: Math.floor((width - side) / 2), y: Math.floor((height - side) / 2), side }];
    remark = "no face found: taken whole as a face";
  } else if (!faces.length && !live) {
    for (const turn of [1, 2, 3]) {  // the turn of the largest face
      const other = look(map, turn), found = find(other, FIND.strict);
      if (found.length && found[0].side > (faces[0]?.side ?? 0)) [seen, faces, turned] = [other, found, turn];
    }
    if (turned) remark = turned === 2 ? "upside down" : "lying on its side";
  }
  map.close();
  const probabilities = await classify(faces.map(face => cut(seen, face)));
  const placed = faces.map((face, index) => ({ ...back(face, turned, width, height), probabilities: probabilities[index] }));
  return { width, height, classes: CLASSES, remark, faces: placed };
}

// ---- pixels

function look(map, turn) {  // gray levels of a picture after quarter turns to the left
  const [width, height] = turn % 2 ? [map.height, map.width] : [map.width, map.height];
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#fff";  // behind what is transparent
  pen.fillRect(0, 0, width, height);
  pen.translate(width / 2, height / 2);
  pen.rotate(-turn * Math.PI / 2);
  pen.drawImage(map, -map.width / 2, -map.height / 2);
  const { data } = pen.getImageData(0, 0, width, height), gray = new Uint8Array(width * height);
  for (let place = 0, from = 0; place < gray.length; place++, from += 4)
    gray[place] = (19595 * data[from] + 38470 * data[from + 1] + 7471 * data[from + 2] + 32768) >> 16;
  return { gray, width, height };
}

function triangle(size, sides) {  // for each new pixel: the first old one, and the shares of those from there on
  const scale = size / sides, reach = Math.max(1, scale);
  return Array.from({ length: sides }, (_, index) => {
    const middle = (index + 0.5) * scale, first = Math.max(0, Math.trunc(middle - reach + 0.5));
    const last = Math.min(size, Math.trunc(middle + reach + 0.5));
    const shares = Array.from({ length: last - first }, (_, step) => Math.max(0, 1 - Math.abs(first + step - middle + 0.5) / reach));
    const sum = shares.reduce((one, other) => one + other, 0);
    return [first, shares.map(share => share / sum)];
  });
}

function shrink({ gray, width, height }, wide, high, at = (x, y) => gray[y * width + x]) {  // averaged over the area
  const rows = new Uint8ClampedArray(wide * height), small = new Uint8ClampedArray(wide * high);
  triangle(width, wide).forEach(([first, shares], x) => {
    for (let y = 0; y < height; y++) rows[y * wide + x] = shares.reduce((sum, share, step) => sum + share * at(first + step, y), 0);
  });
  triangle(height, high).forEach(([first, shares], y) => {
    for (let x = 0; x < wide; x++) small[y * wide + x] = shares.reduce((sum, share, step) => sum + share * rows[(first + step) * wide + x], 0);
  });
  return { gray: small, width: wide, height: high };
}

function cut({ gray, width, height }, { x, y, side }) {  // a face as the network takes it; beyond the picture its edge is repeated
  const inside = (value, size) => Math.min(Math.max(value, 0), size - 1);
  const level = (u, v) => gray[inside(y + v, height) * width + inside(x + u, width)];
  return shrink({ width: side, height: side }, FACE, FACE, level).gray;
}

// ---- the network

async function classify(faces) {  // the mean over each face and its mirror image
  if (!faces.length) return [];
  const size = FACE * FACE, pixels = new Uint8Array(2 * faces.length * size);
  faces.forEach((face, index) => {
    pixels.set(face, index * size);
    for (let place = 0; place < size; place++)
      pixels[(faces.length + index) * size + place] = face[place - place % FACE + FACE - 1 - place % FACE];
  });
  const { data } = (await network.run({ faces: tensor(pixels, 2 * faces.length) })).probabilities;
  const count = CLASSES.length, mirrored = faces.length * count;
  return faces.map((_, index) => CLASSES.map((_, name) => (data[index * count + name] + data[mirrored + index * count + name]) / 2));
}

// ---- the face finder: Viola and Jones 2001, as OpenCV runs it

function find(seen, neighbours, most = FIND.longest) {  // squares, the largest first
  const longest = Math.max(seen.width, seen.height), scale = Math.min(1, most / longest);
  if (Math.min(seen.width, seen.height) * scale < FIND.smallest) return [];
  const small = scale < 1 ? shrink(seen, Math.round(seen.width * scale), Math.round(seen.height * scale)) : seen;
  const boxes = [];
  for (let factor = 1; cascade.side * factor <= Math.min(small.width, small.height); factor *= FIND.step)
    if (Math.round(cascade.side * factor) >= FIND.smallest) search(resized(small, factor), factor, boxes);
  const squares = grouped(boxes, neighbours).map(({ x, y, side }) => {
    const framed = FIND.frame * side / scale, middle = value => (value + side / 2) / scale - framed / 2;
    return { x: Math.round(middle(x)), y: Math.round(middle(y)), side: Math.round(framed) };
  }).sort((one, other) => other.side - one.side || one.x - other.x);
  if (!squares.length || squares[0].side < FIND.large * longest) return squares;
  return squares.filter(square => square.side >= FIND.ghost * squares[0].side);
}

function resized({ gray, width, height }, factor) {  // between the four nearest pixels
  const wide = Math.round(width / factor), high = Math.round(height / factor), small = new Uint8ClampedArray(wide * high);
  const spots = (count, size) => Array.from({ length: count }, (_, index) => {
    const place = Math.min(Math.max((index + 0.5) * size / count - 0.5, 0), size - 1), first = Math.min(Math.floor(place), size - 2);
    return [first, place - first];
  });
  const columns = spots(wide, width);
  spots(high, height).forEach(([y, below], row) => {
    for (let column = 0; column < wide; column++) {
      const [x, right] = columns[column], from = y * width + x, under = from + width;
      const upper = gray[from] + right * (gray[from + 1] - gray[from]), lower = gray[under] + right * (gray[under + 1] - gray[under]);
      small[row * wide + column] = upper + below * (lower - upper);
    }
  });
  return { gray: small, width: wide, height: high };
}

function sums({ gray, width, height }) {  // of the levels, and of their squares, above and left of each corner
  const across = width + 1, plain = new Int32Array(across * (height + 1)), squared = new Float64Array(plain.length);
  for (let y = 0, from = 0; y < height; y++)
    for (let x = 0, row = 0, row2 = 0; x < width; x++, from++) {
      const at = (y + 1) * across + x + 1;
      plain[at] = plain[at - across] + (row += gray[from]);
      squared[at] = squared[at - across] + (row2 += gray[from] * gray[from]);
    }
  return { plain, squared, across };
}

function flat(stages) {  // the cascade as numbers in a row, which are read several times faster
  const trees = stages.flatMap(stage => stage.trees), rects = trees.flatMap(tree => [...tree.rects, [0, 0, 0, 0, 0]].slice(0, RECTS));
  let end = 0;
  return {
    rects, weights: Float64Array.from(rects, rect => rect[4]), bounds: Float64Array.from(trees, tree => tree.threshold),
    low: Float64Array.from(trees, tree => tree.low), high: Float64Array.from(trees, tree => tree.high),
    ends: Int32Array.from(stages, stage => end += stage.trees.length), least: Float64Array.from(stages, stage => stage.threshold - 1e-5),
  };
}

function search(small, factor, boxes) {  // adds a square wherever a window of this picture passes all stages
  const { plain, squared, across } = sums(small), { side } = cascade, step = factor > 2 ? 1 : 2;
  const { rects, weights, bounds, low, high, ends, least } = cascade.flat ??= flat(cascade.stages);
  const corners = new Int32Array(4 * rects.length), inner = side - 2, inside = inner * inner, down = inner * across;
  rects.forEach(([x, y, wide, tall], place) => {
    const from = y * across + x, under = from + tall * across;
    corners.set([from, from + wide, under, under + wide], 4 * place);
  });
  const sum = (from, at) => plain[from + corners[at]] - plain[from + corners[at + 1]] - plain[from + corners[at + 2]] + plain[from + corners[at + 3]];
  const failed = from => {  // the number of the stage that refuses the window; -1: it is a face; -2: it has no contrast
    const at = from + across + 1, total = plain[at] - plain[at + inner] - plain[at + down] + plain[at + down + inner];
    const spread = inside * (squared[at] - squared[at + inner] - squared[at + down] + squared[at + down + inner]) - total * total;
    if (spread <= 0 || inside / Math.sqrt(spread) >= 0.1) return -2;
    const norm = Math.sqrt(spread);
    for (let number = 0, tree = 0, rect = 0; number < ends.length; number++) {
      let votes = 0;
      for (const end = ends[number]; tree < end; tree++, rect += RECTS) {
        let value = weights[rect] * sum(from, 4 * rect) + weights[rect + 1] * sum(from, 4 * rect + 4);
        if (weights[rect + 2]) value += weights[rect + 2] * sum(from, 4 * rect + 8);
        votes += value < bounds[tree] * norm ? low[tree] : high[tree];
      }
      if (votes < least[number]) return number;
    }
    return -1;
  };
  for (let y = 0; y <= small.height - side; y += step)
    for (let x = 0; x <= small.width - side; x += step) {
      const stage = failed(y * across + x);
      if (stage === -1) boxes.push({ x: Math.round(x * factor), y: Math.round(y * factor), side: Math.round(side * factor) });
      if (stage === 0) x += step;  // nothing like a face: the next window is no better
    }
}

function grouped(boxes, least) {  // the means of more than `least` finds that overlap nearly wholly
  const group = boxes.map((_, index) => index), top = index => group[index] === index ? index : (group[index] = top(group[index]));
  const near = (one, other) => {
    const most = 0.2 * Math.min(one.side, other.side), apart = (a, b) => Math.abs(a - b) <= most;
    return apart(one.x, other.x) && apart(one.y, other.y) && apart(one.x + one.side, other.x + other.side) && apart(one.y + one.side, other.y + other.side);
  };
  boxes.forEach((one, index) => { for (let other = 0; other < index; other++) if (near(one, boxes[other])) group[top(index)] = top(other); });
  const groups = new Map(boxes.map((_, index) => [top(index), []]));
  boxes.forEach((box, index) => groups.get(top(index)).push(box));
  const found = [...groups.values()].filter(members => members.length > least).map(members => {
    const mean = name => Math.round(members.reduce((sum, one) => sum + one[name], 0) / members.length);
    return { x: mean("x"), y: mean("y"), side: mean("side"), count: members.length };
  });
  const within = (one, other) => {
    const room = Math.round(0.2 * other.side), low = name => one[name] >= other[name] - room;
    return low("x") && low("y") && one.x + one.side <= other.x + other.side + room && one.y + one.side <= other.y + other.side + room;
  };
  return found.filter(one => !found.some(other => other !== one && within(one, other) && other.count > Math.max(3, one.count)));
}

function back({ x, y, side }, turn, width, height) {  // a square of the turned picture, on the picture
  const places = [[x, y], [width - y - side, x], [width - x - side, height - y - side], [y, height - x - side]];
  return { x: places[turn][0], y: places[turn][1], side };
}
