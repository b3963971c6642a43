# SPDX-License-Identifier: Apache-2.0
"""The evaluation of a checkpoint: unseen cases, measures of their pictures, and the figures of the card.

| module | purpose |
| --- | --- |
| `case` | a case, and the placed objects, walls and prompts that cases are made from |
| `cases` | all cases, and those that LoRAs paint as well |
| `figures` | the figures of every group of cases |
| `measures` | position and colour of an object, visibility of a line, the scene around it |
| `painter` | a checkpoint that paints cases with the server's presets |
| `parts` | cases in which every drawn part counts: faces, stick figures, doodles, thin and nested things |
| `several` | cases of two and three objects, and landscapes |
| `several_figures` | figures of several objects, of many parts, and of the few-step LoRA |
| `single` | cases of one object |
| `single_figures` | figures of one object |
| `visible_parts` | which pixels show which part, and whether a picture shows it there |
"""
