# SPDX-License-Identifier: Apache-2.0
"""What leaves the page and comes back: links, receipts, copies, and files in other formats and sizes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from player import HOUSE, Player
from playwright.sync_api import expect
from scripted_server import ScriptedServer, event, hold, send_more

from support.paths import ROOT
from support.scribble_app import PATH, SMALL, base64_picture
from support.serving import Server

pytestmark = pytest.mark.integration
Visit = Callable[..., Player]

COPIED = """async () => {
  const [item] = await navigator.clipboard.read();
  return (await createImageBitmap(await item.getType("image/png"))).width;
}"""


def test_a_link_carries_prompt_settings_and_scribble_to_another_visitor(visit: Visit) -> None:
    player = visit(permissions=["clipboard-read", "clipboard-write"]).wait_until_ready()
    player.set("num_inference_steps", "3")
    player.set("seed", "9007199254740993")
    player.page.fill("#setting-conditioning_scale", "0.7")
    player.scribble(prompt="a red house & <b>snow</b>").finish()
    player.page.click("#share")
    player.says("#result-error", "The link is copied")
    link = player.page.evaluate("navigator.clipboard.readText()")
    assert len(link) < 3000

    other = visit(may_complain=True)  # an empty page has no storage
    other.page.goto("about:blank")
    other.page.goto(link)
    other.wait_until_ready()
    other.says("#restored", "come from the link")
    page = other.page
    assert page.input_value("#prompt") == "a red house & <b>snow</b>"
    values = [page.input_value(f"#setting-{name}") for name in ("seed", "num_inference_steps", "conditioning_scale")]
    assert values == ["9007199254740993", "3", "0.7"]
    assert other.ink == pytest.approx(player.ink, rel=0.3)
    assert "#" not in page.url  # a reload keeps what was changed since
    other.stroke(((0.1, 0.9), (0.9, 0.9)))
    drawn = other.ink
    page.click("#restored-undo")
    expect(page.locator("#prompt")).to_have_value("")
    other.until_redrawn(drawn)
    assert other.ink == 0


def test_a_link_that_cannot_be_copied_is_in_the_address_and_changes_nothing_else(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    ScriptedServer(page)
    player.scribble(prompt="a cat").finish()
    page.fill("#prompt", "a dog")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as on a page over plain HTTP
    page.click("#share")
    player.says("#result-error", "The address of this page is now the link")
    assert "#v=1&prompt=a+cat&" in page.url
    expect(page.locator("#restored")).to_be_hidden()
    assert page.input_value("#prompt") == "a dog"
    player.reload()  # the link is older than what the tab shows
    player.wait_until_ready()
    assert (page.input_value("#prompt"), "#v=1&prompt=a+cat&" in page.url) == ("a dog", True)
    expect(page.locator("#restored")).to_be_hidden()
    other = player.open_tab().wait_until_ready()
    assert other.page.input_value("#prompt") == "a cat"


def test_a_link_with_wrong_values_or_of_a_newer_version_changes_nothing_else(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    page.evaluate("location.hash = '#v=1&prompt=a+cat&seed=1e9&width=999999&evil=1&num_inference_steps=4&scribble=%2F'")
    player.says("#restored", "without seed, width, evil")
    assert page.input_value("#prompt") == "a cat"
    assert page.input_value("#setting-seed") == ""
    assert page.input_value("#setting-num_inference_steps") == "4"
    page.evaluate("location.hash = '#v=2&prompt=a+dog'")
    player.says("#restored", "A newer version")
    assert page.input_value("#prompt") == "a cat"


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_a_picture_with_a_receipt_restores_what_made_it(
    visit: Visit, scribble_server: Server, tmp_path: Path, output_format: str
) -> None:
    seed = 2**53 + 1  # a number that JavaScript cannot hold
    fields = {"prompt": "an orange fish", "num_inference_steps": 2, "seed": seed, "output_format": output_format}
    made = scribble_server.post(
        PATH,
        data={**fields, **SMALL},
        files={"image": (ROOT / "demo" / "examples" / "fish.png").read_bytes()},
        headers={"Accept": f"image/{output_format}"},
    )
    file = tmp_path / "fish"
    file.write_bytes(made.content)
    player = visit().wait_until_ready().scribble(HOUSE[:1], prompt="a kite")
    drawn, page = player.ink, player.page
    page.set_input_files("#file", file)
    player.says("#restored", "was made from “an orange fish”")
    player.until("#frame", "done")
    assert page.input_value("#prompt") == "an orange fish"
    assert (page.input_value("#setting-seed"), page.input_value("#setting-num_inference_steps")) == (str(seed), "2")
    assert player.ink not in (0, drawn)
    page.click("#restored-trace")  # use the picture as scribble instead
    player.says("#scribble-error", "traced its outlines")
    assert page.input_value("#prompt") == "a kite"
    assert page.input_value("#setting-seed") == ""


def test_a_receipt_without_the_prompt_leaves_the_present_one(
    visit: Visit, scribble_server: Server, tmp_path: Path
) -> None:
    made = scribble_server.post(
        PATH,
        data={"prompt": "a secret", "num_inference_steps": 2, "seed": 5, "receipt": "no_prompt"},
        files={"image": (ROOT / "demo" / "examples" / "fish.png").read_bytes()},
        headers={"Accept": "image/webp"},
    )
    file = tmp_path / "fish.webp"
    file.write_bytes(made.content)
    player = visit().wait_until_ready()
    page = player.page
    page.fill("#prompt", "a kite")
    page.set_input_files("#file", file)
    player.says("#restored", "does not say from which prompt it was made. Its settings and scribble are restored.")
    player.until("#frame", "done")
    assert (page.input_value("#prompt"), page.input_value("#setting-seed")) == ("a kite", "5")
    page.fill("#prompt", "a boat")
    page.get_by_role("button", name="picture without prompt, seed 5", exact=True).click()
    page.wait_for_selector("#history [aria-current=true]")
    assert page.input_value("#prompt") == "a boat"


HOSTILE_RECEIPTS = """async names => {
  const { receiptOf } = await import(names.module);
  const text = value => new TextEncoder().encode(value);
  const webp = comment => {
    const exif = text("ASCII\\0\\0\\0" + comment);
    const head = new DataView(new ArrayBuffer(20));
    new Uint8Array(head.buffer).set(text("RIFF....WEBPEXIF"));
    head.setUint32(16, exif.length, true);
    return new File([head, exif], "a.webp");
  };
  const made = rest => webp(`{"made_by": "fastapi-triton", "receipt": 1, ${rest}}`);
  return [
    await receiptOf(webp("x".repeat(4e6) + "}")),
    await receiptOf(made('"loras": 5, "__proto__": {"polluted": 1}, "prompt": {"a": 1}')),
    await receiptOf(made('"loras": [null, 1, {"name": "a", "scale": 1, "path": "/"}]')),
    {}.polluted ?? null,
  ].map(found => found?.values?.loras ?? found);
}"""


def test_a_hostile_receipt_neither_stops_the_page_nor_reaches_more_than_its_fields(visit: Visit) -> None:
    page = visit().wait_until_ready().page
    scripts = page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    (module,) = (each for each in scripts if each.endswith("/receipt.js"))
    found = page.evaluate(HOSTILE_RECEIPTS, {"module": module})
    assert found == [None, "[]", '[{"name":"a","scale":1}]', None]


UNREADABLE_SCRIBBLE = """() => {
  const receipt = '{"made_by": "fastapi-triton", "receipt": 1, "prompt": "a cat", "scribble_png": "aGVsbG8="}';
  const text = value => new TextEncoder().encode(value);
  const exif = text("ASCII\\0\\0\\0" + receipt);
  const sheet = new OffscreenCanvas(64, 64);
  sheet.getContext("2d").fillRect(16, 16, 8, 8);
  return sheet.convertToBlob({type: "image/jpeg"}).then(picture => {
    const head = new Uint8Array([0xff, 0xd8, 0xff, 0xe1, 0, exif.length + 8, ...text("Exif\\0\\0"), ...exif]);
    const files = new DataTransfer();
    files.items.add(new File([head, picture.slice(2)], "cat.jpeg", {type: "image/jpeg"}));
    document.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
  });
}"""


def test_a_scribble_that_is_no_picture_is_left_out_of_a_link_or_receipt(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    page.evaluate("location.hash = '#v=1&prompt=a+dog&scribble=aGVsbG8'")
    player.says("#restored", "come from the link")
    page.evaluate(UNREADABLE_SCRIBBLE)
    player.says("#restored", "was made from “a cat”")
    assert page.input_value("#prompt") == "a cat"
    page.click("#restored-undo")
    expect(page.locator("#prompt")).to_have_value("a dog")


def test_a_link_with_an_impossible_shape_leaves_a_canvas_while_the_server_is_away(
    visit: Visit, scribble_server: Server
) -> None:
    player = visit(may_complain=True)  # an empty page has no storage
    page = player.page
    page.route("**/playground/model", lambda route: route.fulfill(json={"ready": False, "detail": "It loads."}))
    page.goto("about:blank")
    for sides in ("width=0&height=0", "width=1&height=99999"):
        page.goto(f"{scribble_server.url}#v=1&prompt=a+dog&{sides}")
        player.says("#restored", "come from the link")
        player.stroke(HOUSE[0])
        size = page.evaluate("[document.getElementById('scribble').width, document.getElementById('scribble').height]")
        assert min(size) >= 1
        page.goto("about:blank")


def test_a_long_word_does_not_stop_the_page(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.page.evaluate("""() => {
      const prompt = document.getElementById("prompt");
      prompt.value = "a".repeat(1e6) + " ";
      prompt.dispatchEvent(new Event("input", {bubbles: true}));
    }""")
    player.page.fill("#prompt", "a red house with a ")
    expect(player.page.locator("#suggestions .chip")).not_to_have_count(0)


def test_a_picture_can_be_copied_and_saved_in_another_format_and_size(visit: Visit) -> None:
    player = visit(permissions=["clipboard-read", "clipboard-write"]).wait_until_ready()
    player.make_it_quick()
    player.scribble().finish()
    page = player.page
    page.click("#copy")
    player.says("#result-error", "The picture is copied")
    assert page.evaluate(COPIED) == 128
    for media_type, name in (("image/png", "PNG"), ("image/jpeg", "JPEG")):
        page.click("#save-as")
        page.select_option("#export-format", media_type)
        page.select_option("#export-size", "4")
        with page.expect_download() as downloading:
            page.click("#export-save")
        with Image.open(downloading.value.path()) as saved:
            assert (saved.format, saved.size) == (name, (512, 512))
        assert "-4x." in downloading.value.suggested_filename


def test_save_as_saves_the_picture_for_which_it_was_opened(visit: Visit) -> None:
    player = visit().wait_until_ready()
    page = player.page
    server = ScriptedServer(page)
    player.scribble().finish()
    hold(page, event("progress", {"step": 1, "num_steps": 4}))
    player.press_draw()
    player.says("#caption", "Step 1 of 4")
    page.click("#save-as")
    expect(page.locator("#export")).to_be_visible()
    send_more(page, event("progress", {"step": 2, "num_steps": 4, "preview": base64_picture(size=(128, 128))}))
    player.until("#frame", "preview")
    page.select_option("#export-size", "2")
    with page.expect_download() as downloading:
        page.click("#export-save")
    with Image.open(downloading.value.path()) as saved:
        assert saved.size == (256, 256)
    assert downloading.value.suggested_filename == f"a-red-house-in-the-snow-{server.sent[0]['seed']}-2x.png"


def test_the_scribble_is_compared_with_its_picture_by_keyboard_and_pointer(visit: Visit) -> None:
    player = visit().wait_until_ready()
    player.make_it_quick()
    player.scribble().finish()
    page = player.page
    page.click("#compare-open")
    line = page.locator("#compare-line")
    expect(line).to_be_focused()
    page.keyboard.press("End")
    clip = "getComputedStyle(document.getElementById('compare-scribble')).clipPath"
    assert page.evaluate(clip) == "inset(0px 0% 0px 0px)"  # the scribble hides the whole picture
    box = line.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 40)
    assert float(line.input_value()) == pytest.approx(25, abs=2)
    page.click("#compare-open")
    expect(line).to_be_hidden()
