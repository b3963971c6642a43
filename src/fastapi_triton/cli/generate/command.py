# SPDX-License-Identifier: Apache-2.0
"""The options of `fastapi-triton generate`, and its exit status."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from fastapi_triton.cli.generate import errors, request
from fastapi_triton.cli.generate.errors import GenerateError, UsageError
from fastapi_triton.cli.generate.outputs import STDOUT
from fastapi_triton.cli.generate.progress import ProgressDisplay
from fastapi_triton.cli.generate.run import DEFAULT_URL, GenerateRun, RunReport
from fastapi_triton.observability.logging_config import printable_json, printable_lines

DEFAULT_PATH = "/sdxl/scribble-controlnet/infer"
MAX_PICTURES = 100
_SERVER, _FILES = "The server", "The files"
_MODEL_DECIDES = "The default is the checkpoint's."

EPILOG = (
    "Exit status: 0 if all pictures were written, 1 if the server rejected a request or failed, 2 for invalid options, "
    "3 if there is no server, 130 after Ctrl-C."
)


def command(
    prompt: Annotated[str | None, typer.Argument(help="What the picture shows.", show_default=False)] = None,
    scribble: Annotated[
        str | None, typer.Argument(help="A drawing: an image file, or - for standard input.", show_default=False)
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            rich_help_panel=_FILES,
            help="The picture's file (.png, .webp, .jpg), a folder, or - for standard output. By default a "
            "new PNG here, named after the prompt. --n numbers the files.",
        ),
    ] = None,
    picture_format: Annotated[
        Literal["png", "webp", "jpeg"] | None,
        typer.Option("--format", rich_help_panel=_FILES, help="By default from the file's name."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(rich_help_panel=_FILES, help="Quality of WebP and JPEG, 1 to 100.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", rich_help_panel=_FILES, help="Overwrite existing files.")] = False,
    receipt: Annotated[
        Literal["full", "no_prompt", "none"] | None,
        typer.Option(rich_help_panel=_FILES, help="The receipt in the picture file, which --from reads."),
    ] = None,
    from_picture: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PICTURE",
            help="Make this picture again from its receipt. Other options override the receipt.",
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"Use a scribble and a prompt from the package: {', '.join(request.examples())}.",
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("--n", "-n", min=1, max=MAX_PICTURES, help="Number of pictures; --seed counts up.")
    ] = 1,
    seed: Annotated[
        int | None, typer.Option(min=-1, help="The same seed gives the same picture. By default random, and printed.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help=f"Number of denoising steps. {_MODEL_DECIDES}")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help=f"How closely the picture follows the prompt. {_MODEL_DECIDES}")
    ] = None,
    conditioning_scale: Annotated[
        float | None, typer.Option(help="How closely the picture follows the scribble, 0 to 2.")
    ] = None,
    control_guidance_start: Annotated[
        float | None, typer.Option(help="Start of the part of the steps in which the scribble counts, 0 to 1.")
    ] = None,
    control_guidance_end: Annotated[float | None, typer.Option(help="End of that part, 0 to 1.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What the picture must not show.")] = None,
    width: Annotated[
        int | None, typer.Option(help="A size that the checkpoint supports. By default the one that fits the scribble.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="As --width.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help=f"Such as euler, unipc or dpmpp_2m_karras. {_MODEL_DECIDES}")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A preset of the checkpoint, such as draft; other options override its values.")
    ] = None,
    loras: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="NAME[:SCALE]", help="A LoRA of the checkpoint. Repeat it for several."),
    ] = None,
    prompt_syntax: Annotated[
        Literal["plain", "a1111"] | None, typer.Option(help="a1111: weights in prompts, such as (word:1.3).")
    ] = None,
    init_image: Annotated[
        str | None, typer.Option(metavar="FILE", help="The picture to start from; - for standard input.")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="How much of that picture changes, 0 to 1.")] = None,
    mask: Annotated[str | None, typer.Option(metavar="FILE", help="Its region to paint anew: white on black.")] = None,
    cache: Annotated[
        float | None, typer.Option(help="How many steps are forecast, 0 to 1: faster, less exact.")
    ] = None,
    reproducible: Annotated[
        bool,
        typer.Option(
            "--reproducible", help="Share no pass with other requests, so that rounding cannot differ; slower."
        ),
    ] = False,
    invert: Annotated[
        Literal["auto", "yes", "no"] | None,
        typer.Option(help="Whether the scribble is dark on light. By default detected."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="FASTAPI_TRITON_URL",
            rich_help_panel=_SERVER,
            help=f"The server. By default {DEFAULT_URL}; if none responds there, one is started for this run.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="FASTAPI_TRITON_KEY",
            rich_help_panel=_SERVER,
            help="The API key, if the server needs one. Prefer the variable: other users can read options.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    endpoint: Annotated[
        str, typer.Option(metavar="PATH", rich_help_panel=_SERVER, help="The endpoint that makes pictures.")
    ] = DEFAULT_PATH,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object: files, seeds, info.")] = False,
) -> None:
    """Make a picture from a scribble and a prompt."""
    report = RunReport()
    with _reporting_outcome(report, as_json=as_json):
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key):
            raise UsageError("--key is not a valid key: it contains a space, a line break or non-ASCII characters.")
        if as_json and output == STDOUT:
            raise UsageError("Standard output cannot take both the picture and --json. Name a file, or remove --json.")
        pictures = request.build(
            prompt=prompt,
            scribble=scribble,
            example=example,
            from_picture=from_picture,
            fields={
                "seed": seed,
                "num_inference_steps": steps,
                "guidance_scale": guidance_scale,
                "conditioning_scale": conditioning_scale,
                "control_guidance_start": control_guidance_start,
                "control_guidance_end": control_guidance_end,
                "negative_prompt": negative_prompt,
                "width": width,
                "height": height,
                "scheduler": scheduler,
                "preset": preset,
                "loras": [request.lora(each) for each in loras] if loras else None,
                "prompt_syntax": prompt_syntax,
                "strength": strength,
                "cache": cache,
                "output_quality": quality,
                "invert": invert,
                "receipt": receipt,
                "reproducible": reproducible or None,
            },
            init_image=init_image,
            mask=mask,
            num=n,
            output=output,
            picture_format=picture_format,
            is_forced=force,
        )
        with ProgressDisplay(names_files=not as_json and output != STDOUT, is_quiet=as_json) as display:
            asyncio.run(GenerateRun(pictures, report, display).execute(url=url, path=endpoint, key=key))


@contextmanager
def _reporting_outcome(report: RunReport, *, as_json: bool) -> Iterator[None]:
    """Print the outcome of the run, and exit with its status."""
    error: dict[str, object] = {}
    status = 0
    try:
        yield
    except GenerateError as failure:
        status, error = failure.exit_status, {"code": failure.code, "detail": str(failure)}
    except KeyboardInterrupt:
        status, error = errors.INTERRUPTED, {"code": "interrupted", "detail": "Interrupted."}
    if as_json:
        output = report.as_json() | ({"error": error} if error else {})
        typer.echo(printable_json(output, indent=2))
    if error:
        typer.echo(printable_lines(str(error["detail"])), err=True)
        raise typer.Exit(status)
