# SPDX-License-Identifier: Apache-2.0
"""A function around a model: clients send text and get a score, and do not see its tensors."""

from typing import Annotated

from pydantic import BaseModel, Field

from fastapi_triton import BlockingInfer, Infer, TensorName, TritonFrontend

app = TritonFrontend(title="moods")


class Text(BaseModel):
    text: str = Field(min_length=1)


class Mood(BaseModel):
    score: float


class Tokens(BaseModel):
    ids: Annotated[list[int], TensorName("input.ids")]


class Logits(BaseModel):
    logits: list[float]


@app.infer("/mood", model="mood")
async def mood(request: Text, infer: Infer[Tokens, Logits]) -> Mood:
    outputs = await infer(Tokens(ids=[ord(letter) for letter in request.text]))
    return Mood(score=outputs.logits[1] / sum(outputs.logits))


@app.infer("/mood/in-a-thread", model="mood", name="mood_in_a_thread")
def mood_in_a_thread(request: Text, infer: BlockingInfer[Tokens, Logits]) -> Mood:
    """The same in a thread, for work that takes a while."""
    outputs = infer(Tokens(ids=[ord(letter) for letter in request.text]))
    return Mood(score=outputs.logits[1] / sum(outputs.logits))
