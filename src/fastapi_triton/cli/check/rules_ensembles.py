# SPDX-License-Identifier: Apache-2.0
"""Rules for ensembles. They see the whole repository: an ensemble must fit the models of its steps."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastapi_triton.cli.check.ensemble import Ensemble, in_order, is_complete
from fastapi_triton.cli.check.ensemble_steps import NEWEST, Step
from fastapi_triton.cli.check.repository import ModelFolder
from fastapi_triton.cli.check.rule import ERROR, NOTE, Finding, Rules
from fastapi_triton.cli.check.tensor import Tensor, is_broken, model_dims

RULES: Rules[Ensemble] = Rules()
_PLATFORM = "ensemble"
# Field → the beginning of Triton's sentence about it.
_FIELDS_OF_OTHERS = {
    "instance_group": "instance group should not be",
    "optimization": "optimization should not be",
    "model_warmup": "model_warmup can not be",
}
_NO_BACKEND = "an ensemble model must have platform type 'ensemble' and empty backend type"


def findings(folders: Sequence[ModelFolder], found: Sequence[Finding]) -> list[Finding]:
    """The findings for all ensembles of a repository. `found`: those of the rules for single models."""
    models = {each.name: each for each in folders}
    broken = {each.where for each in found if each.severity is ERROR and not _is_waived(models.get(each.where), each)}
    result: list[Finding] = []
    for folder in in_order(models):
        ensemble = Ensemble(folder, models, broken)
        own = RULES.findings(ensemble, folder.name)
        if any(each.severity is ERROR and not _is_waived(folder, each) for each in own):
            broken.add(folder.name)
        result += own
    return result


@RULES.add(
    "invalid-ensemble",
    ERROR,
    advice='Write `platform: "ensemble"`, and steps that lead from all inputs to all outputs.',
)
def invalid_ensemble(ensemble: Ensemble) -> Iterator[str]:
    """Triton rejects settings of other models, incomplete steps, and tensors that lead nowhere."""
    yield from _foreign_settings(ensemble)
    if "ensemble_scheduling" not in ensemble.folder.settings:
        yield "ensemble scheduling must be set for a model whose platform is ensemble"
        return
    if not ensemble.steps:
        yield "must specify 'step': the ensemble has none"
    for step in ensemble.steps:
        for field, value in (("model_name", step.model), ("input_map", step.inputs), ("output_map", step.outputs)):
            if not value:
                yield f"must specify '{field}' in step {step.index}"
    yield from _data_flow(ensemble)


def _foreign_settings(ensemble: Ensemble) -> Iterator[str]:
    raw = ensemble.folder.settings
    platform, backend = raw.get("platform", ""), raw.get("backend", "")
    if platform != _PLATFORM:
        yield f"ensemble scheduling cannot be set for a model whose platform is not ensemble: it is '{platform}'"
    if backend:
        yield f"{_NO_BACKEND}: `backend` is `{backend}`"
    elif implied := ensemble.folder.backend.name:
        yield f"{_NO_BACKEND}: `default_model_filename` makes {implied} the backend"
    for field, words in _FIELDS_OF_OTHERS.items():
        if raw.get(field) not in (None, []):
            yield f"{words} specified for ensemble: the config has `{field}`"


def _data_flow(ensemble: Ensemble) -> Iterator[str]:
    """Tensors without a source or a destination."""
    inputs = [each.get("name", "") for each in ensemble.folder.inputs]
    outputs = [each.get("name", "") for each in ensemble.folder.outputs]
    written = Counter(tensor for step in ensemble.steps for tensor in step.outputs.values())
    read = {tensor for step in ensemble.steps for tensor in step.inputs.values()}
    for tensor, count in written.items():
        if count > 1:
            yield f"ensemble tensor `{tensor}` can appear in an output map only once, not {count} times"
        elif tensor not in read and tensor not in outputs:
            yield f"ensemble tensor `{tensor}` is unused: no step reads it, and it is no output of the ensemble"
    for tensor in inputs:
        if tensor not in read and tensor not in written:
            yield f"ensemble input `{tensor}` is not used by any step"
    for tensor in outputs:
        if tensor not in written and tensor not in inputs:
            yield f"ensemble output `{tensor}` is not written by any step"
    _, waiting = ensemble.run_order()
    has_no_source = [
        (step, tensor)
        for step in waiting
        for tensor in step.inputs.values()
        if tensor not in written and tensor not in inputs
    ]
    for step, tensor in has_no_source:
        yield f"{step} reads ensemble tensor `{tensor}`, which is not connected: no step writes it, nor is it an input"
    if waiting and not has_no_source:
        yield f"the outputs of {' and '.join(map(str, waiting))} are not written: these steps wait for each other"


@RULES.add(
    "ensemble-step-unavailable",
    ERROR,
    advice="Correct the step (`model_version: -1`: the newest), or waive this if another repository has the model.",
)
def step_unavailable(ensemble: Ensemble) -> Iterator[str]:
    """Triton loads an ensemble only with the models of all its steps."""
    if cycle := ensemble.cycle():
        yield f"circular dependency between ensembles: {' -> '.join(cycle)}"
        return
    for step in ensemble.steps:
        model = ensemble.models.get(step.model)
        if not step.model:
            continue
        if model is None:
            yield f"{step} contains a model that is not available: the repository has no `{step.model}`"
        elif step.model in ensemble.broken:
            yield f"{step} depends on `{step.model}`, which is not valid or has no loaded version: see its errors"
        elif step.version not in (NEWEST, *model.served_versions):
            yield (
                f"{step} depends on `{step.model}`, whose required version {step.version} is not loaded: "
                f"Triton loads {', '.join(map(str, model.served_versions))}"
            )


@RULES.add("ensemble-tensor-mismatch", ERROR, advice="Correct the step's maps, or a config.")
def tensor_mismatch(ensemble: Ensemble) -> Iterator[str]:
    """Triton rejects steps that do not fit each other: names, datatypes, shapes, batch sizes, decoupled models."""
    for step in ensemble.steps:
        model = ensemble.model_of(step)
        if model and step.inputs and step.outputs:
            yield from _batch_size(ensemble, step, model)
            yield from _maps(step, model)
    yield from _datatypes_and_shapes(ensemble)
    yield from _decoupled_sources(ensemble)


def _batch_size(ensemble: Ensemble, step: Step, model: ModelFolder) -> Iterator[str]:
    allowed = model.max_batch_size
    if 0 < allowed < ensemble.folder.max_batch_size:
        yield (
            f"the ensemble allows maximum batch size {ensemble.folder.max_batch_size}, "
            f"but {step} only allows maximum batch size to be {allowed}"
        )


def _maps(step: Step, model: ModelFolder) -> Iterator[str]:
    inputs = {each["name"]: each for each in model.inputs}
    outputs = Counter(each["name"] for each in model.outputs)
    for name, tensor in step.inputs.items():
        if name not in inputs:
            yield f"ensemble tensor `{tensor}` is mapping to non-existing input `{name}` of {step}"
    for name, each in inputs.items():
        if name not in step.inputs and not each.get("optional"):
            yield f"input `{name}` of {step} is not mapped to any ensemble tensor, and is not optional"
    for name, tensor in step.outputs.items():
        if name not in outputs:
            yield f"ensemble tensor `{tensor}` is mapped from non-existing output `{name}` of {step}"
        elif outputs[name] > 1:
            yield (
                f"multiple outputs in {step} are mapped to the same ensemble tensor `{tensor}`: "
                f"it declares `{name}` {outputs[name]} times"
            )


@dataclass(frozen=True, slots=True)
class _End:
    """What one model says about an ensemble tensor. `shape` has the batch dimension, `dims` does not."""

    owner: str
    datatype: str
    dims: Sequence[int]
    shape: Sequence[int]

    @classmethod
    def of(cls, owner: str, model: ModelFolder, tensor: Tensor, dims: Sequence[int]) -> "_End":
        batch = (-1,) if model.max_batch_size > 0 else ()
        return cls(owner, tensor["data_type"], dims, (*batch, *dims))

    def mismatch(self, other: "_End") -> str:
        """Triton accepts equal dims, or equal shapes: with a free batch dimension a step may batch rows by itself."""
        if self.datatype != other.datatype:
            return f"inconsistent data type: {self.datatype} in {self.owner}, {other.datatype} in {other.owner}"
        if not _fit(self.dims, other.dims) and not _fit(self.shape, other.shape):
            return f"inconsistent shape: {[*self.shape]} in {self.owner}, {[*other.shape]} in {other.owner}"
        return ""


def _fit(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _datatypes_and_shapes(ensemble: Ensemble) -> Iterator[str]:
    """Triton compares each end of a tensor with the first one: the ensemble's own, else that of the earliest step."""
    first: dict[str, _End | None] = {}  # None: it cannot be known offline
    own = ensemble.folder
    for owner, tensors in (("the ensemble's input", own.inputs), ("the ensemble's output", own.outputs)):
        for tensor in tensors:
            end = None if is_broken(tensor) else _End.of(owner, own, tensor, model_dims(tensor))
            first.setdefault(tensor.get("name", ""), end)
    for step in ensemble.steps:
        for ensemble_tensor, end in _ends(ensemble, step):
            known = first.setdefault(ensemble_tensor, end)
            if known and end and (problem := known.mismatch(end)):
                yield f"ensemble tensor `{ensemble_tensor}`: {problem}"


def _ends(ensemble: Ensemble, step: Step) -> Iterator[tuple[str, _End | None]]:
    """The ensemble tensors of a step, in the order of its model's tensors. None: it cannot be known offline."""
    model = ensemble.model_of(step)
    if model is None:
        yield from ((tensor, None) for tensor in (*step.inputs.values(), *step.outputs.values()))
        return
    for side, names, tensors in (("input", step.inputs, model.inputs), ("output", step.outputs, model.outputs)):
        for tensor in tensors:
            if (name := tensor["name"]) in names:
                yield names[name], _End.of(f"{side} `{name}` of {step}", model, tensor, tensor["dims"])
        for name in names.keys() - {each["name"] for each in tensors}:
            yield names[name], None


def _decoupled_sources(ensemble: Ensemble) -> Iterator[str]:
    """A step cannot join responses of different decoupled models: their numbers differ."""
    if not all(ensemble.model_of(step) for step in ensemble.steps):
        return
    sources = {each.get("name", ""): "the ensemble's request" for each in ensemble.folder.inputs}
    for step in ensemble.run_order()[0]:
        source = next((sources[tensor] for tensor in step.inputs.values()), "")
        yield from _joined(str(step), "inputs", step.inputs.values(), sources)
        for tensor in step.outputs.values():
            sources.setdefault(tensor, str(step) if ensemble.models[step.model].is_decoupled else source)
    outputs = [each.get("name", "") for each in ensemble.folder.outputs]
    yield from _joined("the ensemble", "outputs", outputs, sources)


def _joined(receiver: str, kind: str, tensors: Iterable[str], sources: Mapping[str, str]) -> Iterator[str]:
    by_source = {sources[tensor]: tensor for tensor in tensors if tensor in sources}
    if len(by_source) > 1:
        parts = " and ".join(f"`{tensor}` from {source}" for source, tensor in by_source.items())
        yield f"{receiver} receives {kind} originated from different decoupled models: {parts}"


@RULES.add("ensemble-step-unknown", NOTE, advice="Declare the tensors in its config.pbtxt, or check with --triton.")
def step_unknown(ensemble: Ensemble) -> Iterator[str]:
    """The backend completes the config of a step's model, so they cannot be compared offline."""
    for name in dict.fromkeys(step.model for step in ensemble.steps):
        model = ensemble.models.get(name)
        if model and name not in ensemble.broken and not is_complete(model):
            yield f"the config.pbtxt of `{name}` does not declare all tensors"


def _is_waived(model: ModelFolder | None, finding: Finding) -> bool:
    return model is not None and bool(model.waivers.get(finding.code))
