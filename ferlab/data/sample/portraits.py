"""A drawn portrait from a face's parameters, in integers alone.

Lengths are hundredths of a pixel, coverages and activations 0..256, tones 0..255. `p` holds the
parameters of n people, each int32 (n, 1, 1); u and v, f and w are places, int32 (n, 48, 48).
"""

import numpy as np

from ferlab.data.dataset import SIZE


def paint(p):
    """Portraits before the camera, of the people `p`: tones 0..255 as int32 (n, 48, 48)."""
    u, v, y = _posed(p)
    canvas = p.back + (p.back_slope * y >> 10) + np.zeros_like(u)
    skin, dark = p.skin, p.skin * 5 >> 3
    wavy = u + _wave(v, p.curl), v + _wave(u, p.curl)
    strands = _wave(u * 2 + (u * v >> 11), 5) + _wave(u - (v >> 1), 7)
    hair = p.hair + np.where(p.hat, _wave(v * 2, 12), strands) - (v + 900 >> 6)
    _behind(p, canvas, u, v, wavy, hair)

    # Head: a skull and a jaw, rounded by light from one side and from above.
    skull = _ellipse(u, v + 350, p.width, 1750)
    head = np.maximum(skull, _ellipse(u, v - 350, p.jaw, p.chin - 350 + (p.au26 >> 1)))
    shade = (u * u + v * v >> 13) // 14 + (u * p.light_x >> 11) + (v >> 7)
    _blend(canvas, skin + 14 - shade, head)

    # Inner features turn with the head: they shift sideways and the far side gets narrower.
    f, side = u - p.yaw, np.sign(u - p.yaw)
    w = np.abs(f) * (256 + side * (p.yaw >> 3)) >> 8
    cheeks = _edge(v - _curve(f, p.width, (1010, 0, -1050)))
    _blend(canvas, p.hair, np.minimum(head, cheeks), p.beard)
    upper = np.s_[:, 2:42]  # rows that eyes and glasses can reach; less to compute
    _upper(p, canvas[upper], f[upper], w[upper], v[upper], side[upper], skin, dark)
    lower = np.s_[:, 16:]
    _nose(p, canvas[lower], f[lower], w[lower], v[lower], skin, dark)
    _mouth(p, canvas[lower], f[lower], v[lower], skin, dark)
    _hair(p, canvas, u, v, wavy, hair)
    return canvas


def photograph(random, p, canvas):
    """The camera: light from the side, contrast, blur, grain; from tones to uint8 (n, 48, 48)."""
    axis = np.arange(SIZE, dtype=np.int32) * 2 + 1 - SIZE
    light = p.bright + (axis * p.light_x >> 6) + (axis[:, None] * p.light_y >> 6)
    canvas = ((canvas - 128) * p.contrast >> 8) + 128 + light
    wide = np.pad(canvas, ((0, 0), (1, 1), (1, 1)), mode="edge")
    wide = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    blurred = wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:] >> 4
    canvas += (blurred - canvas) * p.blur >> 8
    # Four whole bytes per pixel use up the stream evenly, so blocks of any size see the same grain.
    grain = random.integers(0, 256, (len(canvas), 4, SIZE, SIZE), np.uint8).sum(1, dtype=np.int32)
    return np.clip(canvas + ((grain - 510) * p.noise >> 8), 0, 255).astype(np.uint8)


def _posed(p):
    """(u, v, y): places across and down in the upright head's own frame, and down in the image."""
    axis = (np.arange(SIZE, dtype=np.int32) * 2 + 1 - SIZE) * 50
    x, y = axis[None, None, :] - p.x, axis[None, :, None] - p.y
    # No sines: with k = tan(angle / 2), cos = (1 - k^2) / (1 + k^2) and sin = 2k / (1 + k^2).
    square = p.turn * p.turn
    cos = (512 * 512 - square) * p.zoom // (512 * 512 + square)
    sin = 1024 * p.turn * p.zoom // (512 * 512 + square)
    return x * cos + y * sin >> 10, y * cos - x * sin >> 10, y


def _behind(p, canvas, u, v, wavy, hair):
    """What is behind the face, in place: long hair, shoulders, neck, ears."""
    dark = p.skin * 5 >> 3
    long = _ellipse(wavy[0], wavy[1] - 350, p.width + 330, p.chin + 350)
    _blend(canvas, hair - 14, long, p.long * 256)
    _blend(canvas, p.shirt, _ellipse(u, v - 3300, 2500, 1350))
    _blend(canvas, dark, _ellipse(u, v - 2000, p.jaw * 5 >> 3, 900))
    ear = np.abs(u) - p.width
    _blend(canvas, p.skin - 14, _ellipse(ear, v, p.ears, 420))
    _blend(canvas, dark, _ellipse(ear, v, p.ears >> 1, 230), 150)


def _hair(p, canvas, u, v, wavy, hair):
    """Hair or a hat on the head, in place, with the light on it."""
    line = _curve(u, p.width, (p.line, p.slant, p.drop))
    below = line + _wave(u, p.curl >> 1) + _wave(u * 2, 20 - p.hat * 20) - v
    outline = _ellipse(wavy[0], wavy[1] + 350, p.width + p.crown, 1780 + p.crown)
    cap = np.minimum(outline, _edge(below))
    _blend(canvas, hair, cap)
    shine = _ellipse(u + p.light_x * 12, v + 1750, 900, 300, 1)
    _blend(canvas, hair + 40, np.minimum(cap, shine), 130)
    _blend(canvas, hair + 34, np.minimum(cap, _edge(300 - below)), p.hat * 200)


def _upper(p, canvas, f, w, v, side, skin, dark):
    """Eyes, brows, wrinkles and glasses, in place.

    Both sides at once: f is the offset from the face's midline, side its sign and w its size; v
    points down.
    """
    e, y = w - p.eye_x, v - p.eye_y
    _eyes(p, canvas, e, y, w, v, side, skin, dark)
    _brows(p, canvas, e, f, w, v, dark)
    for row in (-60, 90, 240):  # the wrinkled nose
        _blend(canvas, dark, _stroke(f, y - row, 260, (0, 0, 70), 75), p.au9)
    spots = _wave(f * 4 + v, 128) + _wave(v * 4 - f, 128) > 150
    _blend(canvas, dark, spots * _ellipse(w - 600, v - 350, 520, 260), p.freckles * 130)
    _glasses(p, canvas, e, y, w)


def _eyes(p, canvas, e, y, w, v, side, skin, dark):
    """Sockets, lids, eyeballs and crow's feet, in place; e and y: offsets from an eye's middle."""
    lifted = p.au5 * 125 - p.au6 * 60 - p.au7 * 85 - p.au9 * 60 - p.au4 * 20 >> 8
    lowered = p.au5 * 30 - p.au6 * 70 - p.au7 * 60 - p.au9 * 60 >> 8
    up, low = np.maximum(p.eye_open + lifted, 40), np.maximum(120 + lowered, 20)
    up, low = np.where(p.blink, -40, up), np.where(p.blink, 70, low)
    _blend(canvas, dark, _ellipse(e + 60, y + 30, p.eye_wide + 190, 420, 1), 120)
    _blend(canvas, skin + 12, _ellipse(w - 800, v - 480, 420, 300, 1), 60 + p.au6)
    bag = _stroke(e, y, p.eye_wide + 60, (low + 190 - (p.au6 >> 2), 0, -130), 70)
    _blend(canvas, dark, bag, p.age + p.au6 // 2)
    white = _band(e, y, p.eye_wide, (-up, 20, up), (low, 20, -low))
    _blend(canvas, 236 - (skin < 130) * 16, white)
    look, gaze = e - side * p.gaze, y - p.glance + (up - low >> 2)
    _blend(canvas, p.iris, np.minimum(white, _ellipse(look, gaze, 195, 205)))
    _blend(canvas, 12, np.minimum(white, _ellipse(look, gaze, 100, 105)))
    _blend(canvas, 250, np.minimum(white, _ellipse(look - side * 70, gaze + 75, 52, 52)))
    _blend(canvas, 24, _stroke(e, y, p.eye_wide + 50, (-up, 20, up + 20), 70 + p.lash * 60))
    _blend(canvas, dark, _stroke(e, y, p.eye_wide + 20, (-up - 150, 0, up), 50), 150)
    crow = _stroke(e - p.eye_wide - 170, np.abs(y - 20) - 40, 170, (50, 90, 0), 50)
    _blend(canvas, dark, crow, p.au6 * 3 >> 2)


def _brows(p, canvas, e, f, w, v, dark):
    """Brows, the frown between them and the folds of the forehead, in place."""
    inner = (p.au4 * 215 + p.au9 * 150 - p.au1 * 255 >> 8) - p.brow_slope
    outer = p.au4 * 30 + p.au9 * 50 - p.au2 * 265 >> 8
    outer = outer + (p.au1 * 50 >> 8) + p.brow_slope
    gather = p.au4 * 110 + p.au9 * 60 >> 8
    bend = (p.brow_y + (inner + outer >> 1), outer - inner >> 1, p.brow_arch - (p.au4 * 60 >> 8))
    _blend(canvas, p.brow, _stroke(e + gather - 20, v, 440, bend, p.brow_thick * 2))
    frown = _stroke(v - p.brow_y - 60, w, 260, (120, -20, 0), 70)
    _blend(canvas, dark, frown, p.au4 * 3 >> 2)
    for row in (-430, -700):  # raised brows fold the forehead
        fold = _stroke(f, v - p.brow_y - row, 800, (0, 0, 90), 60)
        _blend(canvas, dark, fold, (p.au1 + p.au2) // 3 + p.age // 2)


def _glasses(p, canvas, e, y, w):
    """Glasses, of those who wear some, in place."""
    worn = (p.glasses > 0) * 230
    lens = _ellipse(e + 20, y - 30, 510, 450)
    _blend(canvas, 245, lens, worn >> 3)
    frame = _ellipse(e + 20, y - 30, 575, 515) - lens
    bridge = _band(w, y, p.eye_x - 510, (-80, 0, 40), (20, 0, 0))
    arm = _band(w - 1450, y, 220, (-60, 0, 0), (30, 0, 0))
    tone = np.where(p.glasses == 2, 30, 90)
    _blend(canvas, tone, np.maximum(frame, np.maximum(bridge, arm)), worn)


def _nose(p, canvas, f, w, v, skin, dark):
    """Nose and cheek folds, in place; f, w and v as in `_upper`."""
    tip = v - p.nose + (p.au9 * 110 >> 8)
    lit = np.sign(p.light_x) * 90
    _blend(canvas, dark, _ellipse(f - lit, tip + 330, 120, 420, 1), 110)
    _blend(canvas, skin + 26, _ellipse(f + lit // 3, tip + 130, 120, 330, 1), 150)
    wide = p.nose_wide + (p.au9 * 60 + p.au12 * 30 >> 8)
    _blend(canvas, dark, _stroke(f, tip, wide + 60, (40, 0, -80), 75), 190)
    _blend(canvas, skin * 3 >> 3, _ellipse(w - (wide * 5 >> 3), tip - 20, 75, 50), 220)
    fold = _stroke(v - p.nose - 300, w - p.mouth_wide, 330, (-30, 150, -90), 70)
    deep = p.age + (p.au9 * 240 + p.au12 * 110 + p.au15 * 60 >> 8)
    _blend(canvas, dark, fold, np.minimum(deep, 220))


def _mouth(p, canvas, f, v, skin, dark):
    """Moustache, lips, what is between them, and chin, in place.

    One middle line with corners up or down, then how far the lips part above and below it.
    """
    pull = p.au12 * 190 + p.au20 * 190 + p.shout * 60 - p.au23 * 120 - p.au26 * 170 >> 8
    half = np.maximum(p.mouth_wide + pull, 300)
    pull = p.au15 * 250 + p.au9 * 110 + p.au20 * 60 - p.au12 * 330 - p.au23 * 10 >> 8
    corner = p.mouth_rest + pull
    middle = p.mouth_y + (p.au12 * 60 - p.au15 * 90 - p.au9 * 60 >> 8) - p.mouth_rest // 3
    up = p.au26 * 190 + p.au9 * 110 + p.au20 * 60 + p.grin * 30 + p.shout * 150 >> 8
    low = p.au26 * 430 + p.au16 * 130 + p.au20 * 90 + p.grin * 330 + p.shout * 190 >> 8
    lip = np.maximum(p.lip - (p.au23 * 70 + p.au12 * 30 >> 8), 25)
    m, tilt = v - middle, p.smirk >> 1

    over, under = (-up - lip - 240, 0, corner + up + 250), (-up, 0, corner + up + 70)
    moustache = _band(f, m, half + 60, over, under)
    _blend(canvas, p.hair, moustache, np.maximum(p.moustache * 230, p.beard * 3 >> 2))
    over, under = (-up - lip, tilt, corner + up + lip), low + lip * 5 // 4
    lips = _band(f, m, half, over, (under, tilt, corner - low - lip * 5 // 4))
    _blend(canvas, np.maximum(skin + p.lip_tone, 20), lips, 220)
    parted = np.clip(up + low - 60, 0, 128) * 2
    edges = (-up, tilt, corner + up), (low, tilt, corner - low)
    _inside(p, canvas, f, m, half, edges, up, low, parted)
    _blend(canvas, 40, _stroke(f, m, half + 30, (0, tilt, corner), 75), 256 - parted)
    _blend(canvas, dark, _ellipse(f, m - low - lip - 190, 330, 80, 1), 190)
    _blend(canvas, dark, _stroke(f, m - low - lip - 300, 300, (0, 0, 80), 60), p.au15 // 2)


def _inside(p, canvas, f, m, half, edges, up, low, parted):
    """The open mouth, in place: dark, tongue and teeth, as strongly as the lips are `parted`."""
    top, bottom = edges
    gape = _band(f, m, half - 40, top, bottom)
    _blend(canvas, 28, gape, parted)
    tongue = _ellipse(f, m - low, half * 5 >> 3, 60 + low // 3)
    _blend(canvas, 115, np.minimum(gape, tongue), parted)
    teeth = _edge(_curve(f, half, top) + 60 + (up + low) // 4 - m)
    bared = (p.au16 + p.shout > 70) | (p.au20 > 150)
    teeth = np.maximum(teeth, _edge(m - _curve(f, half, bottom) + 110) * bared)
    _blend(canvas, 238, np.minimum(gape, teeth), parted)


def _ellipse(u, v, ru, rv, soft=0):
    """Coverage 0..256 of an ellipse at the origin; each `soft` step halves the edge's steepness."""
    a, b = u * ((1 << 20) // ru) >> 12, v * ((1 << 20) // rv) >> 12  # 256 on the outline
    inside = (1 << 16) - np.minimum(a * a + b * b, 1 << 19) >> 4
    return np.clip((inside * (np.minimum(ru, rv) * 41 >> 4) >> 13 + soft) + 128, 0, 256)


def _curve(u, half, bend):
    """The parabola a + b t + c t^2 over t = u / half, for bend = (a, b, c)."""
    t = u * ((1 << 20) // half) >> 12
    return bend[0] + ((bend[1] * t + bend[2] * (t * t >> 8)) >> 8)


def _edge(distance):
    """Coverage 0..256 by the distance inside an outline: half on it, full half a pixel inside."""
    return np.clip((distance * 41 >> 4) + 128, 0, 256)


def _band(u, v, half, top, bottom):
    """Coverage of what lies between two parabolas, |u| < half: eyes, lips, teeth."""
    inside = np.minimum(v - _curve(u, half, top), _curve(u, half, bottom) - v)
    return _edge(np.minimum(inside, half - np.abs(u)))


def _stroke(u, v, half, bend, thick):
    """Coverage of a pen line along a parabola, `thick` in the middle, thinner at its ends."""
    t = np.minimum(np.abs(u * ((1 << 20) // half) >> 12), 512)
    width = thick * (320 - (t * t >> 8)) >> 9
    return _edge(width - np.abs(v - _curve(u, half, bend)) - np.maximum(t - 256, 0))


def _blend(canvas, tone, cover, strength=256):
    """Blend a tone into the canvas, in place."""
    canvas += (tone - canvas) * (cover * strength >> 8) >> 8


def _wave(x, amount):
    """A triangle wave, -amount..amount, with a period of 5.12 pixels."""
    return (np.abs((x & 511) - 256) - 128) * amount >> 7
