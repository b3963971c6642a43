# SPDX-License-Identifier: Apache-2.0
"""A function before and after a model: callers send text and get a score, and have never heard of its tensors."""

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
    answer = await infer(Tokens(ids=[ord(letter) for letter in request.text]))
    return Mood(score=answer.logits[1] / sum(answer.logits))


@app.infer("/mood/in-a-thread", model="mood", name="mood_in_a_thread")
def mood_in_a_thread(request: Text, infer: BlockingInfer[Tokens, Logits]) -> Mood:
    """The same, where the tokens take a while."""
    answer = infer(Tokens(ids=[ord(letter) for letter in request.text]))
    return Mood(score=answer.logits[1] / sum(answer.logits))
