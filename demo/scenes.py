# SPDX-License-Identifier: Apache-2.0
"""A training example: objects, their positions and colours, the scribble and the captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import demo.kinds  # noqa: F401  fills KINDS
from demo import backgrounds
from demo.arrangement import draw_arrangement, place, place_in_the_middle
from demo.captions import Subject, caption
from demo.free import free_drawing
from demo.kind import KINDS, Kind
from demo.landscapes import draw_landscape
from demo.nouns import NOUNS
from demo.painting import paint, put_on
from demo.palette import Colour, colour, distance, draw_colour, draw_contrasting, mix
from demo.pen import Pen, draw_pen, scribble

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from demo.backgrounds import Background
    from demo.geometry import Part
    from demo.phrases import Caption
    from demo.pixels import Mask, Pixels

Rng = np.random.Generator
Size = tuple[int, int]

# Shares of the scenes. The families are kinds with thin, open or named parts.
SCENES: dict[str, float] = {
    "one": 0.17,
    "two": 0.19,
    "three": 0.15,
    "landscape": 0.05,
    "faces": 0.20,
    "people": 0.14,
    "doodles": 0.03,
    "thin": 0.035,
    "nested": 0.035,
}
FREE_SHARE = 0.20  # free drawings with an ordinary noun
SAME_SHARE = 0.08  # of two and three objects: all of one kind and colour
SAYS_COLOUR = 0.78
SAYS_COLOURS = 0.94  # for two and three objects, which only their captions assign to objects
SAYS_BACKGROUND = 0.72
FREE_NOUNS = sorted({n.replace("-", " ") for n in NOUNS} - {n for k in KINDS.values() for n in k.nouns})
LIGHT = -2.36  # always from the upper left, so that networks need not guess it


@dataclass(frozen=True, slots=True)
class Placed:
    """One object in the picture."""

    subject: Subject
    parts: tuple[Part, ...]  # in pixels
    unit: float  # pixels per unit of its own drawing


@dataclass(frozen=True, slots=True)
class Scene:
    size: Size
    objects: tuple[Placed, ...]  # from back to front; captions name the last one first
    background: Background
    says_background: bool
    arrangement: str
    picture: Pixels  # (H, W, 3)
    mask: Mask  # (H, W), where the objects are
    owner: npt.NDArray[np.int8]  # (H, W), the index of the object that is visible, or -1
    details: Mask  # (H, W), where eyes, windows, limbs, spokes and similar small parts are visible

    def scribble(self, rng: Rng, *, pen: Pen | None = None) -> Pixels:
        """The scribble, (H, W) of 0 and 255. All objects are drawn with the same pen."""
        return scribble([o.parts for o in self.objects], pen or draw_pen(rng), self.size, rng)

    def caption(self, rng: Rng) -> Caption:
        return caption(
            tuple(o.subject for o in reversed(self.objects)),
            self.background,
            says_background=self.says_background,
            rng=rng,
            arrangement=self.arrangement,
        )


def draw_scene(rng: Rng, size: Size = (128, 128), *, is_portrait: bool = False) -> Scene:
    """A random scene of the training distribution; a portrait shows one known kind, large, upright, in the middle."""
    name = "one" if is_portrait else str(rng.choice(list(SCENES), p=list(SCENES.values())))
    if name == "landscape":
        subjects, drawings, background, says = draw_landscape(rng, size)
        unit = 0.4 * min(size)
        objects = tuple(Placed(s, d, unit) for s, d in zip(subjects, drawings, strict=True))
        return compose(objects[::-1], background, size, says_background=says, arrangement=name)
    things = draw_things(rng, {"two": 2, "three": 3}.get(name, 1), name, is_portrait=is_portrait)
    arrangement, slots = draw_arrangement(rng, len(things), size)
    objects = tuple(
        Placed(thing.subject, *place_in_the_middle(thing.drawing, size))
        if is_portrait
        else Placed(
            thing.subject,
            *place(
                thing.drawing, size, rng, slot=slots[i] if slots else None, turn=thing.kind.turn if thing.kind else 20
            ),
        )
        for i, thing in enumerate(things)
    )
    says = bool(rng.random() < SAYS_BACKGROUND)
    homes = things[0].kind.home if things[0].kind else ()
    background = draw_background(rng, size, [t.subject.colour for t in things], is_said=says, homes=homes)
    return compose(objects[::-1], background, size, says_background=says, arrangement=arrangement)


@dataclass(frozen=True, slots=True)
class Thing:
    """An object before it has a position."""

    kind: Kind | None  # None: a free drawing
    subject: Subject
    drawing: list[Part]


def draw_things(rng: Rng, count: int, family: str, *, is_portrait: bool) -> list[Thing]:
    """Objects of different colours, or several of one kind and colour."""
    things: list[Thing] = []
    same = count > 1 and rng.random() < SAME_SHARE
    for _ in range(count):
        if same and things and (kind := things[0].kind):
            things.append(Thing(kind, things[0].subject, kind.draw(rng)))
            continue
        kind, noun, drawing = draw_thing(rng, free_share=0.0 if is_portrait or same else FREE_SHARE, family=family)
        subject = describe(rng, kind, noun, drawing, others=[t.subject.colour for t in things], count=count)
        things.append(Thing(kind, subject, drawing))
    return things


def describe(
    rng: Rng, kind: Kind | None, noun: str, drawing: list[Part], *, others: list[Colour], count: int
) -> Subject:
    """The object's colour, unlike that of the others, and whether captions say it; and its named parts."""
    extras = tuple(dict.fromkeys(part.said for part in drawing if part.said))
    if not shows_colour(drawing):
        fill = next(part.fill for part in drawing if not part.is_detail)  # its own colours only, such as a face
        rgb = fill if isinstance(fill, tuple) else (128, 128, 128)
        return Subject(noun, Colour("gray", "", rgb), says_colour=False, extras=extras)
    says = bool(rng.random() < (SAYS_COLOUR if count == 1 else SAYS_COLOURS))
    natural = () if says and rng.random() < 0.7 else kind.colours if kind else ()
    tone = draw_colour(rng, among=natural, shaded=0.25 if says else 0.1)
    named = [part.fill for part in drawing if part.said and isinstance(part.fill, tuple)]
    for _ in range(12):
        is_new = all(o.name != tone.name for o in others)
        if is_new and all(distance(rgb, tone.rgb) > 90 for rgb in (*(o.rgb for o in others), *named)):
            break
        tone = draw_colour(rng, shaded=0.15)
        says = says or bool(others)
    return Subject(noun, tone, says, extras, is_known=kind is not None)


def shows_colour(drawing: Iterable[Part]) -> bool:
    """Whether any part has the object's own colour. A face, for example, has named colours only."""
    return any(part.fill in ("body", "dark", "light") for part in drawing)


def compose(
    objects: tuple[Placed, ...],
    background: Background,
    size: Size,
    *,
    says_background: bool,
    arrangement: str = "row",
) -> Scene:
    """Paint the objects from back to front."""
    picture = background.picture.astype(np.float32)
    mask = np.zeros(size[::-1], dtype=bool)
    details = np.zeros_like(mask)
    owner = np.full(mask.shape, -1, dtype=np.int8)
    for index, placed in enumerate(objects):
        painted = paint(placed.parts, placed.subject.colour.rgb, size, unit=placed.unit, light=LIGHT)
        put_on(picture, painted, unit=placed.unit, light=LIGHT)
        solid = painted.alpha > 0.5
        mask[painted.window] |= solid
        owner[painted.window][solid] = index
        details[painted.window] = (details[painted.window] & ~solid) | painted.details
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(size, objects, background, says_background, arrangement, pixels, mask, owner, details)


def draw_thing(rng: Rng, *, free_share: float = FREE_SHARE, family: str = "") -> tuple[Kind | None, str, list[Part]]:
    """A kind with its noun and drawing, or a free drawing with an ordinary noun."""
    kinds = [k for k in KINDS.values() if k.family == family]
    if not kinds:
        if rng.random() < free_share:
            return None, str(rng.choice(FREE_NOUNS)), free_drawing(rng)
        kinds = list(KINDS.values())
    weights = np.array([k.weight for k in kinds])
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    noun = kind.nouns[0] if rng.random() < 0.6 else str(rng.choice(kind.nouns))
    return kind, noun, kind.draw(rng)


def draw_background(
    rng: Rng, size: Size, colours: list[Colour], *, is_said: bool, homes: tuple[str, ...]
) -> Background:
    """A background. If captions name it, it can be any; otherwise it is a usual scene of the object, or a pale wall."""
    if not is_said:
        if homes and rng.random() < 0.6:
            return backgrounds.scene(str(rng.choice(homes)), size, rng)
        if rng.random() < 0.25:
            return backgrounds.scene("sky" if rng.random() < 0.5 else "meadow", size, rng)
        among = ("white", "yellow", "cyan", "pink", "gray", "blue")
        return backgrounds.plain(pale(rng, among, colours), size)
    choice = rng.random()
    if choice < 0.5:
        wall = draw_contrasting(rng, colours[0])
        for _ in range(10):
            if all(c.name != wall.name and distance(c.rgb, wall.rgb) > 90 for c in colours):
                break
            wall = draw_contrasting(rng, colours[-1])
        return backgrounds.plain(wall, size)
    if choice < 0.62:
        return backgrounds.ground(size, rng, unlike=colours[0])
    names = list(backgrounds.SCENES)
    weights = np.array([1.0 if n in ("space", "forest", "beach", "road") else 1.6 for n in names])
    return backgrounds.scene(str(rng.choice(names, p=weights / weights.sum())), size, rng)


def pale(rng: Rng, among: tuple[str, ...], colours: list[Colour]) -> Colour:
    for _ in range(8):
        name = str(rng.choice(among))
        soft = Colour(name, "light", mix(colour(name).rgb, (255, 255, 255), 0.62))
        if all(distance(c.rgb, soft.rgb) > 90 for c in colours):
            return soft
    return Colour("gray", "", (150, 160, 176))
