# SPDX-License-Identifier: Apache-2.0
"""The endpoints of this app. Edit them, or add endpoints and plain FastAPI routes. `fastapi-triton serve` runs it."""

from typing import Annotated

from pydantic import BaseModel, Field, Json, RootModel

from fastapi_triton import Base64Image, TritonFrontend

app = TritonFrontend(title="SDXL scribble ControlNet")


class LoRA(BaseModel, extra="forbid"):
    name: str = Field(max_length=200)
    scale: float = Field(1.0, ge=-4, le=4)


class LoRAs(RootModel[Annotated[list[LoRA], Field(max_length=100)]]):
    """Adapters of the checkpoint that change the picture."""


class ScribbleRequest(BaseModel):
    """A scribble and a prompt: the inputs of the model's config.pbtxt. Omitted fields use the checkpoint's defaults."""

    prompt: str = Field(min_length=1, max_length=10_000, examples=["a red house in the snow"])
    image: Base64Image
    conditioning_scale: float = Field(1.0, ge=0, le=2)
    negative_prompt: str | None = Field(None, max_length=10_000)
    prompt_syntax: str | None = Field(None, pattern="^(plain|a1111)$", description="a1111: (word:1.3), [word], BREAK …")
    clip_skip: int | None = Field(None, ge=0, description="number of the text encoders' last layers to skip")
    seed: int | None = Field(None, ge=-1, description="random if -1 or omitted; the response has it")
    preset: str | None = Field(None, max_length=100, description="its values for fields that you omit; in describe")
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=50)
    control_guidance_start: float | None = Field(None, ge=0, le=1)
    control_guidance_end: float | None = Field(None, ge=0, le=1)
    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)
    scheduler: str | None = Field(None, max_length=100, description="such as euler or dpmpp_2m_karras; in describe")
    timestep_spacing: str | None = Field(None, pattern="^(leading|linspace|trailing)$")
    eta: float | None = Field(None, ge=0, le=1, description="with the schedulers ddim and tcd")
    loras: LoRAs | None = Field(None, description='[{"name": "watercolour", "scale": 0.8}]; in describe')
    output_format: str | None = Field(None, pattern="^(webp|png|jpeg)$")
    output_quality: int | None = Field(None, ge=1, le=100)
    invert: str | None = Field(None, pattern="^(auto|yes|no)$", description="whether the scribble is dark on light")
    receipt: str | None = Field(None, pattern="^(full|no_prompt|none)$", description="the record in the picture file")
    reproducible: bool | None = Field(None, description="unaffected by other requests; slower")
    init_image: Base64Image | None = Field(None, description="the picture to start from")
    strength: float | None = Field(None, ge=0, le=1, description="how much of init_image changes")
    mask: Base64Image | None = Field(None, description="white where init_image is painted anew")
    cache: float | None = Field(None, ge=0, le=1, description="how many steps are forecast; faster, less exact")
    mask_selects: str | None = Field(None, pattern="^(white|black|transparent)$", description="instead of white")
    mask_blur: float | None = Field(None, ge=0, le=64, description="of mask's border, in pixels")


class ScribbleResponse(BaseModel):
    generated_image: Base64Image
    seed: int
    info: Json[dict[str, object]]


path, model = "/sdxl/scribble-controlnet/infer", "sdxl_scribble_controlnet"
app.infer(path, model=model, stream_model=f"{model}_stream", request=ScribbleRequest, response=ScribbleResponse)
