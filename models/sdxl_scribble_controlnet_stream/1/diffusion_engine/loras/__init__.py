# SPDX-License-Identifier: Apache-2.0
"""LoRA: adapters that change a checkpoint's layers for single requests. Rows with different adapters share passes.

An adapter adds `scale * (up @ down)` to a layer's weight. Here the layer adds the product to its output instead, for
each row with the adapters of its request, so that the checkpoint's weights never change. If a UNet is small, and all
rows of a pass have the same adapters, a copy of the UNet has them in its weights.

| module | purpose |
| --- | --- |
| `adapter` | a loaded adapter, and the cache of loaded adapters |
| `batch` | the adapters of the rows of a pass, as tensors |
| `files` | finds the files, converts their formats, and checks that they fit the checkpoint |
| `layers` | the UNet's layers with the adapters of each row |
| `layout` | the columns of each layer in the tensors of an adapter |
| `library` | the adapters of an engine, by name |
| `merged` | a copy of the UNet with adapters in its weights |
| `parsing` | the request's field `loras` |
| `text` | the text encoders with the adapters of a request |
"""
