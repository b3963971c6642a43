# SPDX-License-Identifier: Apache-2.0
"""What the engine does on a GPU, measured in minutes by one command: `benchmarks/gpu_kit/run`. README.md explains it.

| module | purpose |
| --- | --- |
| `__main__` | the command: checks the machine, installs the wheels, runs the parts |
| `packages` | the packages that the kit needs, and the wheels that travel with it |
| `machine_check` | the GPU, its driver and this PyTorch; why they cannot be used |
| `part` | the parts, their time and memory |
| `part_process` | runs each part in its own process |
| `part_imports` | imports all parts once for their processes |
| `part_runner` | runs the parts one after another, within the time budget |
| `results` | the results so far, written after every row |
| `results_page` | the results as a page |
| `plan` | what is measured: SDXL on a GPU, or tiny networks on a CPU |
| `bench` | what a part gets: the plan, the networks, and where to report |
| `build`, `passes`, `parity`, `cancellation`, `pictures`, `compiled`, `traces`, `served` | the parts |
| `waits`, `recovery`, `broken_gpu`, `vae`, `idle` | parts that answer open questions |
| `reproducible`, `attention`, `kernels`, `copies`, `growth` | likewise |

`__main__` and the modules that it imports need only the standard library. The parts' processes import PyTorch.
"""
