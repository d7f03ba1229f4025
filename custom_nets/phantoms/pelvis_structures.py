# SPDX-License-Identifier: Apache-2.0
"""The average female pelvis in millimetres from the middle between the hip joints (x right, y front, z up).

Sizes are textbook ones, trimmed so that the volumes are about in the proportions that the bundle's paper shows for its
54 structures. Solids overlap on purpose: ranks and depths decide where one ends and the next begins.
"""

from __future__ import annotations

from custom_nets.phantoms.pelvis_shapes import BONE, BOWEL, VESSEL, Chain, Ellipsoid, Structure

_WING = (20, 0, 60)
"""How the wing of the ilium stands: rotations about x, y, z in degrees; the muscles on both its faces stand alike."""

#: The structures of both sides, by name without the side; the one on the patient's right is written.
PAIRED: dict[str, Structure] = {
    "Adductor brevis": Structure([Chain([(18, 42, -50, 6), (44, 32, -68, 11), (68, 20, -95, 14)])]),
    "Adductor longus": Structure([Chain([(16, 54, -48, 3.5), (32, 50, -70, 5.5), (46, 44, -90, 9)])], rank=1),
    "Adductor magnus": Structure([Chain([(44, -6, -62, 8), (56, -6, -76, 17), (72, -2, -106, 24)])]),
    "Erector spinae": Structure([Chain([(27, -76, 118, 17), (23, -84, 92, 11), (17, -90, 66, 6)], (1.2, 0.9, 1))]),
    "Femur": Structure(
        [
            Ellipsoid((90, 0, 0), (23, 23, 23)),
            Chain([(92, -1, -2, 15), (120, -8, -22, 14)]),
            Chain([(136, -15, 2, 9), (133, -14, -20, 15), (127, -10, -40, 17)]),
            Chain([(127, -10, -40, 17), (124, -8, -60, 15), (120, -6, -110, 14)]),
            Ellipsoid((108, -18, -50), (10, 10, 12)),
        ],
        BONE,
        rank=3,
        size=0.03,
    ),
    "Hip bone": Structure(
        [
            Ellipsoid((86, -14, 78), (66, 6.5, 58), _WING),
            Ellipsoid((80, -2, 8), (30, 31, 32)),
            Chain([(78, -25, 28, 13), (52, -66, 58, 10), (46, -72, 74, 8)]),
            Chain([(70, 22, 0, 12), (36, 48, -18, 8.5), (10, 50, -27, 9), (9, 49, -40, 9)]),
            Chain([(10, 45, -44, 8), (30, 18, -64, 6.5), (48, -14, -74, 8)]),
            Chain([(72, -24, -4, 15), (62, -30, -38, 13), (54, -28, -70, 14)]),
        ],
        BONE,
        rank=2,
        size=0.03,
    ),
    "Iliacus": Structure(
        [
            Ellipsoid((70, -3, 78), (52, 15, 50), _WING),
            Chain([(80, 26, 42, 14), (93, 38, 5, 11), (98, 28, -25, 9), (112, -2, -50, 6)]),
        ]
    ),
    "Gluteus maximus": Structure(
        [
            Ellipsoid((88, -64, -14), (66, 37, 80), (0, 0, 24)),
            Chain([(48, -88, 74, 12), (62, -84, 40, 22), (80, -76, 0, 26)], (1.2, 0.9, 1)),
            Chain([(112, -56, -40, 22), (136, -34, -75, 12)]),
        ],
        rank=-1,
    ),
    "Gluteus medius": Structure(
        [Ellipsoid((110, -24, 66), (56, 22, 55), _WING), Chain([(118, -8, 40, 21), (140, -14, 4, 9)], (1, 1.3, 1))]
    ),
    "Gluteus minimus": Structure(
        [Ellipsoid((105, -4, 44), (46, 19, 44), _WING), Chain([(112, 8, 30, 15), (131, 6, -2, 8)], (1, 1.3, 1))]
    ),
    "Obturator internus": Structure(
        [
            Ellipsoid((47, 8, -16), (9, 38, 30), (0, 8, -28)),
            Chain([(52, -22, -14, 9), (70, -44, -8, 8), (100, -36, -4, 6), (130, -18, -2, 4)]),
        ]
    ),
    "Tensor fasciae latae": Structure(
        [Chain([(117, 38, 58, 6), (126, 42, 25, 12), (135, 32, -35, 10), (141, 18, -95, 4)], (0.8, 1.3, 1))]
    ),
    "Obturator externus": Structure(
        [Chain([(26, 36, -44, 9), (52, 20, -48, 14), (84, -12, -36, 9), (118, -24, -20, 4)])], rank=1
    ),
    "Ovary": Structure([Ellipsoid((42, -8, 46), (13, 17, 15))], ((0, "ovary"), (7, "follicle")), rank=4, lift=0.4),
    "Pectineus": Structure(
        [Chain([(30, 57, -14, 7), (52, 50, -34, 11), (84, 26, -60, 9), (106, 4, -76, 4)])], rank=1
    ),
    "Piriformis": Structure(
        [Chain([(22, -58, 44, 9), (54, -62, 30, 13), (94, -44, 14, 9), (132, -20, 5, 4.5)])], rank=1
    ),
    "Psoas major": Structure(
        [Chain([(46, -6, 118, 16), (56, 8, 82, 13.5), (70, 30, 42, 11), (84, 43, 5, 8), (102, 20, -36, 5)])], rank=1
    ),
    "Quadratus femoris": Structure([Chain([(64, -32, -52, 9), (112, -28, -50, 8)], (1, 0.75, 2))], rank=1),
    "Rectus abdominis": Structure(
        [Chain([(36, 75, 120, 10), (34, 74, 70, 10), (25, 70, 20, 9), (14, 60, -18, 6)], (2.3, 0.85, 1))]
    ),
    "Rectus femoris": Structure([Chain([(101, 38, 34, 5), (110, 44, 5, 9), (114, 44, -40, 12), (110, 42, -100, 14)])]),
    "Sartorius": Structure(
        [Chain([(112, 48, 60, 6), (104, 56, 22, 9.5), (92, 58, -30, 10), (76, 56, -95, 10)], (1.2, 0.9, 1))]
    ),
    "Vastus intermedius": Structure([Chain([(124, 12, -56, 4), (120, 15, -80, 10), (116, 16, -110, 14)])]),
    "Vastus lateralis": Structure(
        [Chain([(144, -2, -30, 6), (146, 2, -58, 15), (142, 4, -105, 20)], (0.9, 1.3, 1))]
    ),
}  # fmt: skip

#: The structures that are there once.
SINGLE: dict[str, Structure] = {
    "Body of uterus": Structure(
        [Ellipsoid((2, 4, 58), (27, 37, 22), (22, 0, 0))],
        ((0, "uterine muscle"), (10, "junctional zone"), (14, "endometrium")),
        rank=4, size=0.09, anchor=(0, -18, 38), lift=0.7,
    ),
    "Cervix": Structure(
        [Ellipsoid((0, -20, 27), (18, 17, 18))], ((0, "cervix"), (11, "endometrium")), rank=4, size=0.06, lift=0.3
    ),
    "Rectum": Structure(
        [Chain([(4, -52, 36, 12), (0, -60, 10, 12), (0, -48, -22, 11), (0, -40, -44, 9), (0, -46, -66, 8)])],
        BOWEL, rank=4, size=0.12,
    ),
    "Sacrum": Structure(
        [
            Chain([(0, -36, 94, 18), (0, -60, 60, 15), (0, -78, 24, 10), (0, -72, -6, 5)], (1.7, 1, 1)),
            Ellipsoid((30, -48, 78), (22, 17, 22)),
            Ellipsoid((-30, -48, 78), (22, 17, 22)),
        ],
        BONE, rank=3, size=0.03,
    ),
    "Sigmoid colon": Structure(
        [Chain([(-74, 14, 92, 13), (-44, 34, 76, 14), (-8, 32, 90, 14), (14, -2, 92, 13), (10, -36, 60, 12)])],
        BOWEL, rank=4, size=0.08, lift=0.5,
    ),
    "Urethra": Structure([Chain([(0, 24, -28, 6.5), (0, 27, -60, 5.5)])], ((0, "urethra"),), rank=5),
    "Urinary bladder": Structure(
        [Ellipsoid((0, 24, 6), (48, 34, 36), (-12, 0, 0))],
        ((0, "bladder wall"), (3, "urine")), rank=4, size=0.14, anchor=(0, 26, -30),
    ),
    "Vagina": Structure(
        [Chain([(0, -22, 14, 7), (0, -12, -20, 7), (0, 6, -66, 6)], (2.1, 0.9, 1))], ((0, "vagina"),), rank=4
    ),
}  # fmt: skip

#: What has no label, on both sides: muscles that look like the labelled ones, vessels.
PAIRED_UNLABELLED: dict[str, Structure] = {
    "Hamstrings": Structure([Chain([(58, -42, -68, 8), (70, -40, -90, 16), (74, -38, -120, 22)])]),
    "Gracilis": Structure([Chain([(10, 36, -58, 3), (22, 20, -85, 9), (26, 14, -120, 11)], (0.7, 1.5, 1))]),
    "Levator ani": Structure(
        [Chain([(38, -10, -18, 3.5), (22, -40, -40, 3.5), (5, -62, -44, 3.5)], (1, 1, 2))], rank=1
    ),
    "Multifidus": Structure([Chain([(12, -80, 118, 12), (11, -92, 70, 8), (10, -98, 35, 4)])]),
    "Iliac and femoral artery": Structure(
        [Chain([(30, 0, 120, 5), (62, 34, 50, 5), (76, 58, -5, 5), (74, 52, -60, 4.5)])], VESSEL, rank=2, size=0.1
    ),
    "Iliac and femoral vein": Structure(
        [Chain([(24, -12, 120, 6), (54, 22, 50, 6), (64, 56, -5, 6), (64, 48, -60, 5)])], VESSEL, rank=2, size=0.1
    ),
    "Sciatic nerve": Structure(
        [Chain([(50, -50, 30, 4), (82, -46, -20, 4), (84, -38, -100, 4)])], ((0, "nerve"),), rank=1
    ),
}  # fmt: skip

#: What has no label and is there once.
SINGLE_UNLABELLED: dict[str, Structure] = {
    "Fifth lumbar vertebra": Structure([Ellipsoid((0, -26, 124), (26, 20, 16), (-12, 0, 0))], BONE, rank=3, size=0.03),
    "Pubic symphysis": Structure([Ellipsoid((0, 50, -32), (4, 9, 16))], ((0, "cartilage"),), rank=3, size=0.03),
}
