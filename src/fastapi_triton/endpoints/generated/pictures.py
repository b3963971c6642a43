# SPDX-License-Identifier: Apache-2.0
"""What a request says about pictures: their normalization, PNG in place of arrays, a PNG as the whole response."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from fastapi_triton.core.errors import InferenceError, NotAcceptableError, TooLargeError, invalid_field
from fastapi_triton.endpoints import content_negotiation, image_tensors, json_codec
from fastapi_triton.endpoints.generated import batches
from fastapi_triton.endpoints.generated.codec import GeneratedModel
from fastapi_triton.endpoints.json_codec import Arrays
from fastapi_triton.triton.image_dims import Normalize
from fastapi_triton.triton.model_config import ModelConfig, TensorConfig
from fastapi_triton.triton.tensor import Tensor

PNG = "image/png"
_IN_JSON = f"Accept {content_negotiation.JSON}; with ?arrays=png it has each picture as PNG in base64."
# The codes of limits that lists of numbers reach, and the same pictures as files do not.
_LIST_LIMITS = ("too_many_elements", "too_much_text", "body_too_large")


def normalizations(config: ModelConfig) -> list[Normalize]:
    """The possible values of the query option `normalize`."""
    images = [tensor.image for tensor in (*config.inputs, *config.outputs) if tensor.image is not None]
    return list(dict.fromkeys(each for image in images for each in image.normalizations))


def with_options(model: GeneratedModel, arrays: Arrays, normalize: Normalize | None) -> GeneratedModel:
    """The model with a request's normalization in place of those in its config.

    Raises:
        InvalidRequestError: the model has no pictures to which the options could apply.
    """
    if arrays == "png" and not model.config.image_outputs:
        detail = f"No output of {model.config.name} holds a picture. Omit `arrays=png`, or use `npy` or `base64`."
        raise invalid_field("arrays", "unsupported_parameter", detail)
    return model if normalize is None else _normalized(model, normalize)


def _normalized(model: GeneratedModel, normalize: Normalize) -> GeneratedModel:
    config = model.config
    takes_none = f"Omit `normalize`: no input or output of {config.name} holds a picture of floats."
    possible = normalizations(config)
    for tensor in config.image_inputs:
        if tensor.image is not None and tensor.image.normalizations and normalize not in tensor.image.normalizations:
            possible = list(tensor.image.normalizations)
    if normalize not in possible:
        names = f"`normalize` is `{normalize}`; {config.name} takes one of {', '.join(possible)}."
        raise invalid_field("normalize", "unsupported_parameter", names if possible else takes_none)
    inputs, outputs = (_with_normalization(tensors, normalize) for tensors in (config.inputs, config.outputs))
    return model.with_config(replace(config, inputs=inputs, outputs=outputs))


def _with_normalization(tensors: Iterable[TensorConfig], normalize: Normalize) -> tuple[TensorConfig, ...]:
    """The tensors. Those that cannot have the normalization keep their own."""
    return tuple(
        replace(tensor, normalize=normalize) if tensor.image and normalize in tensor.image.normalizations else tensor
        for tensor in tensors
    )


def choose_media_type(config: ModelConfig, accept: str | None, *, has_classes: bool) -> str:
    """The media type of the response to one request.

    Raises:
        NotAcceptableError: the client accepts none of the possible ones; the error has the reason.
    """
    if config.decoupled:
        return content_negotiation.choose(accept, [content_negotiation.EVENTS])
    outputs = config.image_outputs
    offers = [content_negotiation.JSON, *([PNG] if len(outputs) == 1 and not has_classes else [])]
    try:
        return content_negotiation.choose(accept, offers, picture=PNG)
    except NotAcceptableError as error:
        if "image/" not in (accept or "").lower() or PNG in offers:
            raise
        if has_classes:
            detail = (
                f"{error.detail} Classes are returned in JSON; omit `classes`, or accept {content_negotiation.JSON}."
            )
            raise NotAcceptableError(detail) from None
        if not outputs:
            raise NotAcceptableError(f"{error.detail} No output of {config.name} holds a picture.") from None
        names = " and ".join(f"`{tensor.name}`" for tensor in outputs)
        raise NotAcceptableError(f"{config.name} returns more than one picture, {names}. {_IN_JSON}") from None


def media_type_of_rows(media_type: str, num_rows: int | None, accept: str | None) -> str:
    """The media type of the response to this many rows: JSON for several, if the client accepts it.

    Raises:
        NotAcceptableError: the client accepts only a picture.
    """
    if media_type != PNG or num_rows in (None, 1):
        return media_type
    try:
        return content_negotiation.choose(accept, [content_negotiation.JSON])
    except NotAcceptableError:
        detail = f"The batch has {num_rows} rows, but {PNG} holds one picture. Send one row, or: {_IN_JSON}"
        raise NotAcceptableError(detail) from None


def as_png(config: ModelConfig, outputs: Mapping[str, Tensor]) -> bytes:
    """The one picture among the outputs, as a PNG file. Other outputs are omitted.

    Raises:
        InferenceError: the model did not return it, or it does not fit the config.
        NotAcceptableError: it holds more than one picture.
    """
    (tensor,) = config.image_outputs
    if tensor.name not in outputs or tensor.image is None:
        raise InferenceError(f"The model {config.name} did not return its output `{tensor.name}`.")
    (row,) = batches.output_rows(config, {tensor.name: outputs[tensor.name]}, 1)
    array = json_codec.shaped(row[tensor.name], tensor)
    if tensor.image.leading is not None:
        if len(array) != 1:
            raise NotAcceptableError(f"`{tensor.name}` holds {len(array)} pictures, but {PNG} one. {_IN_JSON}")
        array = array[0]
    return image_tensors.as_png(array, tensor, tensor.image)


def require_used(normalize: Normalize | None, num_normalized: int, config: ModelConfig, *, returns_png: bool) -> None:
    """Check that a request's normalization applied to a picture.

    Raises:
        InvalidRequestError: it sent none of floats, and gets none.
    """
    if normalize is None or num_normalized:
        return
    if returns_png and any(
        tensor.image and normalize in tensor.image.normalizations for tensor in config.image_outputs
    ):
        return
    detail = (
        "`normalize` is for pictures of floats, but the request has none: arrays of numbers are not changed. Omit it."
    )
    raise invalid_field("normalize", "unsupported_parameter", detail)


@contextmanager
def explained_limits(config: ModelConfig) -> Iterator[None]:
    """Have the error of a limit that a list of numbers exceeds name the inputs that take pictures."""
    try:
        yield
    except TooLargeError as error:
        inputs = config.image_inputs
        if not inputs or error.code not in _LIST_LIMITS:
            raise
        name = inputs[0].name
        detail = (
            f"{error.detail} Instead of a list, send the picture as a file (curl -F {name}=@photo.jpg), or the array "
            "as base64 or `npy`."
        )
        raise TooLargeError(detail, code=error.code, problems=error.problems) from None
