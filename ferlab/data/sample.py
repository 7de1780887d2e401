"""The embedded sample: 10,051 drawn faces in FER2013's class proportions, computed from a seed, so that everything runs
and is tested without the download. Seven expressions are put together from facial action units (AU: one muscle's pull).

Integers only: lengths are hundredths of a pixel, coverages and activations 0..256, tones 0..255. There is no float
here, hence no rounding that differs between processors: `draw().digest` is one constant everywhere.

As in FER2013 there is something for an audit to find: 36 private (1 %) and 12 public images repeat a training image
bit by bit, 8 of these 48 under another label, and 3 training images are blank (all zero).
"""

from types import SimpleNamespace

import numpy as np

from ferlab.data.classes import CLASSES
from ferlab.data.dataset import SIZE, assemble

# Images per split, classes in CLASSES' order: a tenth of FER2013's training images, all of its test images.
COUNTS = {
    "train": ("Training", (400, 44, 410, 722, 497, 483, 317)),
    "public": ("PublicTest", (467, 56, 496, 895, 607, 653, 415)),
    "private": ("PrivateTest", (491, 55, 528, 879, 626, 594, 416)),
}
BLANK = 3
REPEATED = {"public": 12, "private": 36}
RELABELLED = {"public": 2, "private": 6}
BLOCK = 32  # faces painted at a time: small enough for the processor's cache; the result does not depend on it
# How strongly an expression pulls each action unit, in tenths: 1 inner and 2 outer brow raiser, 4 brow lowerer,
# 5 upper lid raiser, 6 cheek raiser, 7 lid tightener, 9 nose wrinkler, 12 lip corner puller and 15 depressor,
# 16 lower lip depressor, 20 lip stretcher, 23 lip tightener, 26 jaw drop.
UNITS = (1, 2, 4, 5, 6, 7, 9, 12, 15, 16, 20, 23, 26)
PULL = {
    "angry": (0, 0, 10, 5, 0, 7, 3, 0, 2, 0, 0, 10, 0),
    "disgust": (0, 0, 8, 0, 2, 6, 8, 0, 5, 6, 0, 0, 1),
    "fear": (9, 5, 6, 8, 0, 0, 0, 0, 0, 0, 10, 0, 4),
    "happy": (0, 0, 0, 0, 9, 0, 0, 10, 0, 0, 0, 0, 1),
    "neutral": (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "sad": (10, 0, 6, 0, 0, 1, 0, 0, 10, 0, 0, 0, 0),
    "surprise": (8, 10, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 10),
}
# Hair styles, one per column: bald, crop, side part, fringe, long, bob, curls, receding, beanie.
HAIR = {
    "crown": (0, 110, 200, 190, 230, 220, 430, 90, 300),  # how far the hair stands off the head
    "line": (-2600, -1330, -1360, -950, -1480, -900, -1200, -1600, -1130),  # hairline at the middle
    "slant": (0, 0, 420, 60, 200, 0, 0, 0, 0),  # ... how much lower at one side
    "drop": (0, 1000, 960, 800, 1500, 950, 900, 1150, 230),  # ... at both temples
    "long": (0, 0, 0, 0, 1, 1, 0, 0, 0),  # falls behind the cheeks
    "curl": (0, 0, 0, 60, 30, 0, 200, 0, 0),
}  # waviness of the outline


def draw(seed=0):
    """The sample as a Dataset named "sample"; equal seeds give equal bytes on every machine."""
    random = np.random.Generator(np.random.PCG64(seed))
    labels, splits, ids = [], [], []
    for split, (prefix, counts) in COUNTS.items():
        mixed = np.repeat(np.arange(len(CLASSES)), counts)[_shuffle(random, sum(counts))]
        labels.append(mixed)
        splits += [split] * len(mixed)
        ids += [f"{prefix}_{number:05d}" for number in range(len(mixed))]
    labels, splits = np.concatenate(labels), np.array(splits)
    people = _people(random, labels)
    faces = np.empty((len(labels), SIZE, SIZE), np.uint8)
    for start in range(0, len(labels), BLOCK):
        block = slice(start, start + BLOCK)
        some = SimpleNamespace(**{key: value[block] for key, value in people.items()})
        faces[block] = _photo(random, some, _paint(some))
    _spoil(random, faces, labels, splits)
    return assemble("sample", CLASSES, faces, ids, [CLASSES[label] for label in labels], splits)


def _spoil(random, faces, labels, splits):
    """FER2013's blemishes, in place: blank training images, test images that repeat training images."""
    train = np.flatnonzero(splits == "train")
    train = train[_shuffle(random, len(train))]
    faces[train[:BLANK]] = 0
    sources = list(train[BLANK:])
    for split, count in REPEATED.items():
        rows = np.flatnonzero(splits == split)
        for place, row in enumerate(rows[_shuffle(random, len(rows))][:count]):
            differs = place < RELABELLED[split]
            source = next(
                source for source in sources if (labels[source] != labels[row]) == differs
            )
            sources.remove(source)
            faces[row] = faces[source]


def _shuffle(random, count):
    """A random order of `count` things, from integers alone."""
    return np.argsort(random.integers(0, 1 << 62, count), kind="stable")


def _people(random, labels):
    """Everything that varies from face to face: a dict of int32 arrays (N, 1, 1)."""
    count = len(labels)

    def bell(middle, spread):
        """Bell-shaped around `middle`, never further away than `spread` (the sum of four uniform numbers)."""
        return middle + random.integers(-spread, spread + 1, (4, count)).sum(0) // 4

    def flat(low, high):
        return random.integers(low, high, count)

    def chance(percent):
        return (random.integers(0, 100, count) < percent).astype(int)

    p = {}
    # Expression: a strength for the face, a jitter for each unit, and a little of everything as faces at rest have.
    strength = np.minimum(flat(50, 330), 256)
    pull = np.array([PULL[name] for name in CLASSES])[labels].T
    for unit, tenths in zip(UNITS, pull, strict=True):
        p[f"au{unit}"] = np.clip(
            strength * tenths * flat(60, 116) // 1000 + np.maximum(bell(0, 90), 0), 0, 270
        )
    angry = (labels == CLASSES.index("angry")) & (chance(30) == 1)
    p["shout"] = np.where(angry, strength * flat(40, 110) // 100, 0)  # some anger bares its teeth
    p["grin"] = np.maximum(p["au12"] - flat(20, 220), 0)  # some smiles show them
    p["blink"] = chance(2)
    # Identity.
    p.update(
        width=bell(1560, 260),
        jaw=bell(1330, 280),
        chin=bell(2050, 200),
        skin=bell(172, 75),
        ears=bell(270, 110),
    )
    style = np.searchsorted(
        (5, 19, 35, 49, 64, 75, 86, 93), flat(0, 100), side="right"
    )  # percent, cumulated
    p.update({key: np.array(values)[style] for key, values in HAIR.items()})
    p.update(
        line=p["line"] + bell(0, 260),
        crown=p["crown"] + bell(0, 80) * (style > 0),
        hat=(style == 8).astype(int),
    )
    p["slant"] = p["slant"] * (1 - 2 * chance(50))
    p["hair"] = np.where(chance(25) == 1, flat(130, 225), flat(18, 110))
    p["brow"] = np.minimum(p["hair"], p["skin"] - 50)
    p.update(
        brow_thick=bell(85, 60),
        brow_y=bell(-700, 150),
        brow_slope=bell(0, 110),
        brow_arch=bell(110, 120),
    )
    p.update(
        eye_x=bell(690, 110), eye_y=bell(-170, 100), eye_wide=bell(420, 75), eye_open=bell(215, 80)
    )
    p.update(iris=bell(65, 50), gaze=bell(0, 150), glance=bell(0, 70), lash=chance(45))
    p.update(
        nose=bell(430, 170),
        nose_wide=bell(235, 100),
        mouth_y=bell(1090, 120),
        mouth_wide=bell(590, 130),
    )
    p.update(mouth_rest=bell(0, 130), smirk=bell(0, 130), lip=bell(105, 70), lip_tone=bell(-42, 36))
    man = chance(50) * (p["long"] == 0)
    p.update(
        beard=man * chance(32) * flat(70, 240),
        moustache=man * chance(24),
        glasses=chance(14) * flat(1, 3),
    )
    p.update(freckles=chance(8), age=chance(22) * flat(20, 110), shirt=flat(25, 235))
    # Pose and light.
    p.update(
        turn=bell(0, 68), x=bell(0, 330), y=bell(60, 260), zoom=bell(960, 140), yaw=bell(0, 400)
    )
    p.update(back=flat(20, 236), back_slope=flat(-18, 19), light_x=bell(0, 44), light_y=bell(0, 30))
    p.update(
        contrast=bell(225, 90),
        bright=bell(0, 50),
        blur=np.clip(bell(70, 330), 0, 256),
        noise=flat(1, 12),
    )
    return {key: value.astype(np.int32).reshape(-1, 1, 1) for key, value in p.items()}


def _ellipse(u, v, ru, rv, soft=0):
    """Coverage 0..256 of an ellipse at the origin; `soft` (0..) halves the edge's steepness so many times."""
    a, b = u * ((1 << 20) // ru) >> 12, v * ((1 << 20) // rv) >> 12  # 256 on the outline
    inside = (1 << 16) - np.minimum(a * a + b * b, 1 << 19) >> 4
    return np.clip((inside * (np.minimum(ru, rv) * 41 >> 4) >> 13 + soft) + 128, 0, 256)


def _curve(u, half, bend):
    """The parabola a + b t + c t^2 over t = u / half, for bend = (a, b, c)."""
    t = u * ((1 << 20) // half) >> 12
    return bend[0] + ((bend[1] * t + bend[2] * (t * t >> 8)) >> 8)


def _edge(distance):
    """Coverage 0..256 from a distance inside an outline: half at the outline, full half a pixel further in."""
    return np.clip((distance * 41 >> 4) + 128, 0, 256)


def _band(u, v, half, top, bottom):
    """Coverage of what lies between two parabolas, |u| < half: eyes, lips, teeth."""
    return _edge(
        np.minimum(
            np.minimum(v - _curve(u, half, top), _curve(u, half, bottom) - v), half - np.abs(u)
        )
    )


def _stroke(u, v, half, bend, thick):
    """Coverage of a pen line along a parabola, `thick` hundredths in the middle and thinner at its ends."""
    t = np.minimum(np.abs(u * ((1 << 20) // half) >> 12), 512)
    return _edge(
        (thick * (320 - (t * t >> 8)) >> 9)
        - np.abs(v - _curve(u, half, bend))
        - np.maximum(t - 256, 0)
    )


def _lay(canvas, tone, cover, strength=256):
    """Blend a tone into the canvas, in place."""
    canvas += (tone - canvas) * (cover * strength >> 8) >> 8


def _wave(x, amount):
    """A triangle wave, -amount..amount, with a period of 5.12 pixels."""
    return (np.abs((x & 511) - 256) - 128) * amount >> 7


def _paint(p):
    """Portraits before the camera: tones 0..255 as int32 (n, 48, 48), from the parameters of n people."""
    axis = (np.arange(SIZE, dtype=np.int32) * 2 + 1 - SIZE) * 50
    x, y = axis[None, None, :] - p.x, axis[None, :, None] - p.y
    # A rotation without sines: with k = tan(angle / 2), cos = (1 - k^2) / (1 + k^2) and sin = 2k / (1 + k^2).
    square = p.turn * p.turn
    cos = (512 * 512 - square) * p.zoom // (512 * 512 + square)
    sin = 1024 * p.turn * p.zoom // (512 * 512 + square)
    u, v = x * cos + y * sin >> 10, y * cos - x * sin >> 10
    canvas = p.back + (p.back_slope * y >> 10) + np.zeros_like(u)
    skin, dark = p.skin, p.skin * 5 >> 3
    wavy_u, wavy_v = u + _wave(v, p.curl), v + _wave(u, p.curl)
    strands = _wave(u * 2 + (u * v >> 11), 5) + _wave(u - (v >> 1), 7)
    hair = p.hair + np.where(p.hat, _wave(v * 2, 12), strands) - (v + 900 >> 6)

    # Behind the face: long hair, shoulders, neck, ears.
    _lay(
        canvas, hair - 14, _ellipse(wavy_u, wavy_v - 350, p.width + 330, p.chin + 350), p.long * 256
    )
    _lay(canvas, p.shirt, _ellipse(u, v - 3300, 2500, 1350))
    _lay(canvas, dark, _ellipse(u, v - 2000, p.jaw * 5 >> 3, 900))
    ear = np.abs(u) - p.width
    _lay(canvas, skin - 14, _ellipse(ear, v, p.ears, 420))
    _lay(canvas, dark, _ellipse(ear, v, p.ears >> 1, 230), 150)

    # Head: a skull and a jaw, rounded by light from one side and from above.
    drop = p.au26 >> 1
    head = np.maximum(
        _ellipse(u, v + 350, p.width, 1750), _ellipse(u, v - 350, p.jaw, p.chin - 350 + drop)
    )
    shade = (u * u + v * v >> 13) // 14 + (u * p.light_x >> 11) + (v >> 7)
    _lay(canvas, skin + 14 - shade, head)

    # Inner features turn with the head: they shift sideways and the far side gets narrower.
    f = u - p.yaw
    side = np.sign(f)
    w = np.abs(f) * (256 + side * (p.yaw >> 3)) >> 8
    _lay(canvas, p.hair, np.minimum(head, _edge(v - _curve(f, p.width, (1010, 0, -1050)))), p.beard)
    _eyes(p, canvas[:, 2:42], f[:, 2:42], w[:, 2:42], v[:, 2:42], side[:, 2:42], skin, dark)
    _lower(p, canvas[:, 16:], f[:, 16:], w[:, 16:], v[:, 16:], skin, dark)

    below = (
        _curve(u, p.width, (p.line, p.slant, p.drop))
        + _wave(u, p.curl >> 1)
        + _wave(u * 2, 20 - p.hat * 20)
        - v
    )
    cap = np.minimum(
        _ellipse(wavy_u, wavy_v + 350, p.width + p.crown, 1780 + p.crown), _edge(below)
    )
    _lay(canvas, hair, cap)
    _lay(
        canvas, hair + 40, np.minimum(cap, _ellipse(u + p.light_x * 12, v + 1750, 900, 300, 1)), 130
    )
    _lay(canvas, hair + 34, np.minimum(cap, _edge(300 - below)), p.hat * 200)
    return canvas


def _eyes(p, canvas, f, w, v, side, skin, dark):
    """Brows, eyes and their wrinkles, in place.

    Both sides at once: f is the offset from the face's midline, side its sign and w its size; v points down.
    """
    e, y = w - p.eye_x, v - p.eye_y
    up = np.maximum(
        p.eye_open + (p.au5 * 125 - p.au6 * 60 - p.au7 * 85 - p.au9 * 60 - p.au4 * 20 >> 8), 40
    )
    low = np.maximum(120 + (p.au5 * 30 - p.au6 * 70 - p.au7 * 60 - p.au9 * 60 >> 8), 20)
    up, low = np.where(p.blink, -40, up), np.where(p.blink, 70, low)
    _lay(canvas, dark, _ellipse(e + 60, y + 30, p.eye_wide + 190, 420, 1), 120)
    _lay(canvas, skin + 12, _ellipse(w - 800, v - 480, 420, 300, 1), 60 + p.au6)
    _lay(
        canvas,
        dark,
        _stroke(e, y, p.eye_wide + 60, (low + 190 - (p.au6 >> 2), 0, -130), 70),
        p.age + p.au6 // 2,
    )
    white = _band(e, y, p.eye_wide, (-up, 20, up), (low, 20, -low))
    _lay(canvas, 236 - (skin < 130) * 16, white)
    look, gaze = e - side * p.gaze, y - p.glance + (up - low >> 2)
    _lay(canvas, p.iris, np.minimum(white, _ellipse(look, gaze, 195, 205)))
    _lay(canvas, 12, np.minimum(white, _ellipse(look, gaze, 100, 105)))
    _lay(canvas, 250, np.minimum(white, _ellipse(look - side * 70, gaze + 75, 52, 52)))
    _lay(canvas, 24, _stroke(e, y, p.eye_wide + 50, (-up, 20, up + 20), 70 + p.lash * 60))
    _lay(canvas, dark, _stroke(e, y, p.eye_wide + 20, (-up - 150, 0, up), 50), 150)
    crow = _stroke(e - p.eye_wide - 170, np.abs(y - 20) - 40, 170, (50, 90, 0), 50)
    _lay(canvas, dark, crow, p.au6 * 3 >> 2)

    inner = (p.au4 * 215 + p.au9 * 150 - p.au1 * 255 >> 8) - p.brow_slope
    outer = (p.au4 * 30 + p.au9 * 50 - p.au2 * 265 >> 8) + (p.au1 * 50 >> 8) + p.brow_slope
    gather = p.au4 * 110 + p.au9 * 60 >> 8
    bend = (p.brow_y + (inner + outer >> 1), outer - inner >> 1, p.brow_arch - (p.au4 * 60 >> 8))
    _lay(canvas, p.brow, _stroke(e + gather - 20, v, 440, bend, p.brow_thick * 2))
    _lay(canvas, dark, _stroke(v - p.brow_y - 60, w, 260, (120, -20, 0), 70), p.au4 * 3 >> 2)
    for row in (-430, -700):  # raised brows fold the forehead
        _lay(
            canvas,
            dark,
            _stroke(f, v - p.brow_y - row, 800, (0, 0, 90), 60),
            (p.au1 + p.au2) // 3 + p.age // 2,
        )
    for row in (-60, 90, 240):  # the wrinkled nose
        _lay(canvas, dark, _stroke(f, v - p.eye_y - row, 260, (0, 0, 70), 75), p.au9)
    spots = (_wave(f * 4 + v, 128) + _wave(v * 4 - f, 128) > 150) * _ellipse(
        w - 600, v - 350, 520, 260
    )
    _lay(canvas, dark, spots, p.freckles * 130)

    worn = (p.glasses > 0) * 230
    lens = _ellipse(e + 20, y - 30, 510, 450)
    _lay(canvas, 245, lens, worn >> 3)
    frame = _ellipse(e + 20, y - 30, 575, 515) - lens
    bridge = _band(w, y, p.eye_x - 510, (-80, 0, 40), (20, 0, 0))
    arm = _band(w - 1450, y, 220, (-60, 0, 0), (30, 0, 0))
    _lay(canvas, np.where(p.glasses == 2, 30, 90), np.maximum(frame, np.maximum(bridge, arm)), worn)


def _lower(p, canvas, f, w, v, skin, dark):
    """Nose, cheek folds, mouth and chin, in place; f, w and v as in `_eyes`."""
    tip = v - p.nose + (p.au9 * 110 >> 8)
    lit = np.sign(p.light_x) * 90
    _lay(canvas, dark, _ellipse(f - lit, tip + 330, 120, 420, 1), 110)
    _lay(canvas, skin + 26, _ellipse(f + lit // 3, tip + 130, 120, 330, 1), 150)
    wide = p.nose_wide + (p.au9 * 60 + p.au12 * 30 >> 8)
    _lay(canvas, dark, _stroke(f, tip, wide + 60, (40, 0, -80), 75), 190)
    _lay(canvas, skin * 3 >> 3, _ellipse(w - (wide * 5 >> 3), tip - 20, 75, 50), 220)

    fold = np.minimum(p.age + (p.au9 * 240 + p.au12 * 110 + p.au15 * 60 >> 8), 220)
    _lay(canvas, dark, _stroke(v - p.nose - 300, w - p.mouth_wide, 330, (-30, 150, -90), 70), fold)

    # Mouth: one middle line with corners up or down, then how far the lips part above and below it.
    pull = p.au12 * 190 + p.au20 * 190 + p.shout * 60 - p.au23 * 120 - p.au26 * 170 >> 8
    half = np.maximum(p.mouth_wide + pull, 300)
    corner = p.mouth_rest + (
        p.au15 * 250 + p.au9 * 110 + p.au20 * 60 - p.au12 * 330 - p.au23 * 10 >> 8
    )
    middle = p.mouth_y + (p.au12 * 60 - p.au15 * 90 - p.au9 * 60 >> 8) - p.mouth_rest // 3
    up = p.au26 * 190 + p.au9 * 110 + p.au20 * 60 + p.grin * 30 + p.shout * 150 >> 8
    low = p.au26 * 430 + p.au16 * 130 + p.au20 * 90 + p.grin * 330 + p.shout * 190 >> 8
    lip = np.maximum(p.lip - (p.au23 * 70 + p.au12 * 30 >> 8), 25)
    m = v - middle
    line = (0, p.smirk >> 1, corner)
    top, bottom = (-up, p.smirk >> 1, corner + up), (low, p.smirk >> 1, corner - low)
    _lay(
        canvas,
        p.hair,
        _band(f, m, half + 60, (-up - lip - 240, 0, corner + up + 250), (-up, 0, corner + up + 70)),
        np.maximum(p.moustache * 230, p.beard * 3 >> 2),
    )
    _lay(
        canvas,
        np.maximum(skin + p.lip_tone, 20),
        _band(
            f,
            m,
            half,
            (top[0] - lip, top[1], top[2] + lip),
            (low + lip * 5 // 4, top[1], bottom[2] - lip * 5 // 4),
        ),
        220,
    )
    gape = _band(f, m, half - 40, top, bottom)
    parted = np.clip(up + low - 60, 0, 128) * 2
    _lay(canvas, 28, gape, parted)
    _lay(canvas, 115, np.minimum(gape, _ellipse(f, m - low, half * 5 >> 3, 60 + low // 3)), parted)
    teeth = _edge(_curve(f, half, top) + 60 + (up + low) // 4 - m)
    teeth = np.maximum(
        teeth, _edge(m - _curve(f, half, bottom) + 110) * ((p.au16 + p.shout > 70) | (p.au20 > 150))
    )
    _lay(canvas, 238, np.minimum(gape, teeth), parted)
    _lay(canvas, 40, _stroke(f, m, half + 30, line, 75), 256 - parted)
    _lay(canvas, dark, _ellipse(f, m - low - lip - 190, 330, 80, 1), 190)
    _lay(canvas, dark, _stroke(f, m - low - lip - 300, 300, (0, 0, 80), 60), p.au15 // 2)


def _photo(random, p, canvas):
    """The camera: light from the side, contrast, blur, grain; from tones to uint8 (n, 48, 48)."""
    axis = np.arange(SIZE, dtype=np.int32) * 2 + 1 - SIZE
    light = p.bright + (axis * p.light_x >> 6) + (axis[:, None] * p.light_y >> 6)
    canvas = ((canvas - 128) * p.contrast >> 8) + 128 + light
    wide = np.pad(canvas, ((0, 0), (1, 1), (1, 1)), mode="edge")
    wide = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    blurred = wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:] >> 4
    canvas += (blurred - canvas) * p.blur >> 8
    # Four whole bytes per pixel: the stream is used up evenly, so blocks of any size see the same grain.
    grain = (
        random.integers(0, 256, (len(canvas), 4, SIZE, SIZE), np.uint8).sum(1, dtype=np.int32) - 510
    )
    return np.clip(canvas + (grain * p.noise >> 8), 0, 255).astype(np.uint8)
