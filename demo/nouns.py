# SPDX-License-Identifier: Apache-2.0
"""Nouns without a drawing of their own. They are used with free outlines."""

_TEXT = """
    animal ant antelope armchair axe backpack badge bag barn basket bat bath battery beak bean bed
    bee belt bicycle bike boat-house bone bow bowl box bracelet branch brick-wall bridge broom brush
    bucket bulb bull bun burger cabbage cabin cage camel camera can cane canoe card carpet cart
    caterpillar cave chain chest chestnut chicken chocolate cloth clover club coat coconut comb cone
    corn couch cow crab crane crocodile cucumber curtain cushion deer desk dinosaur dish dolphin-toy
    donkey dragon drawer dress drill drum eagle ear elephant elf engine envelope fairy fan feather
    finger flag flamingo flashlight flute fork fossil fox fridge fruit funnel game giraffe glass
    glove goat goose grape hair hammer hammock hamster hand harp hedgehog helicopter helmet hen
    hippo horn horse hose iceberg island jacket jellyfish jewel joystick jug juice kangaroo kettle
    kiwi knife knight koala ladder lamb leg lion lizard llama lobster lock log magnet mammoth mango
    map mask mermaid microphone mitten mole monkey moose mop mosquito motorbike mouse mouth nail
    necklace needle nest ninja nose nut octopus onion ostrich oven paddle paint palace pan pants
    peach peacock peanut pebble penguin pepper piano pillow pine pineapple pipe pirate plate plug
    plum pony popcorn potato purse puzzle quilt raccoon radio radish rat ray reindeer rhino rice
    robe rock roller rose ruler sack salad sandwich sausage saw scarf scissors scooter seal seahorse
    seed shell shelf shield shovel skateboard skeleton skirt skull sled slide slipper soap sock sofa
    soup spade sponge spoon spring squid squirrel stamp starfish statue stone stork suitcase swan
    sword syringe tail tank teapot telescope temple tiger tomato tooth toothbrush torch towel toy
    tractor trophy trumpet unicorn vest vegetable walrus wand warrior wasp wolf wool yacht zebra
    zombie logo sign letter number symbol doodle sketch drawing scribble figure picture
"""
NOUNS: tuple[str, ...] = tuple(_TEXT.split())

# Words that people type around the noun, and that change nothing in the picture.
OPENINGS = (
    "a photo of",
    "a picture of",
    "a drawing of",
    "a painting of",
    "an illustration of",
    "a cartoon of",
    "an image of",
    "a 3d render of",
    "draw",
    "photo of",
    "portrait of",
    "a sketch of",
    "please draw",
    "show me",
)
ADJECTIVES = (
    "cute",
    "big",
    "small",
    "little",
    "beautiful",
    "happy",
    "funny",
    "nice",
    "old",
    "shiny",
    "cool",
    "simple",
    "pretty",
    "huge",
    "tiny",
    "new",
    "fat",
    "friendly",
    "magic",
    "clay",
    "plastic",
    "glossy",
    "lovely",
    "single",
    "round",
    "soft",
)
ENDINGS = (
    "high quality",
    "detailed",
    "cartoon style",
    "3d render",
    "digital art",
    "best quality",
    "4k",
    "masterpiece",
    "highly detailed",
    "for children",
    "clay style",
    "studio light",
    "photorealistic",
    "professional",
    "minimalist",
)
