"""The page in a real browser, and the server behind it against what is sent by hand."""

import http.client
import io
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import idx2numpy
import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect
from support import (
    PROJECT,
    folder_of,
    idx_bytes,
    made_once,
    needs_browser,
    open_browser,
    pipeline,
    pipeline_process,
    write_idx_folder,
)

from pipeline.data import folders, sources
from pipeline.errors import InputError
from pipeline.inference import digitize
from pipeline.playground import app, corrections
from pipeline.playground.corrections import Corrections

# On a drawing area of 448 px.
STROKES = {"1": [[(224, 90), (224, 360)]], "7": [[(110, 120), (320, 120), (200, 360)]]}


def drawn(digit: str, *, seed: int | None = None) -> np.ndarray:
    """A digit's strokes on white paper, uint8 (448, 448), wobbling with the seed."""
    picture = Image.new("L", (448, 448), 255)
    wobble = np.zeros((3, 2)) if seed is None else np.random.default_rng(seed).normal(0, 18, (3, 2))
    for stroke in STROKES[digit]:
        points = [tuple(point + shift) for point, shift in zip(np.array(stroke, float), wobble, strict=False)]
        ImageDraw.Draw(picture).line(points, fill=0, width=32, joint="curve")
    return np.asarray(picture)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> dict[str, str]:
    """A registry with two champions that tell drawn ones from sevens, and the folder of such drawings beside it."""

    def fill(folder: Path, environment: dict[str, str]) -> None:
        (folder / "strokes").mkdir()
        for part, count in (("train", 160), ("t10k", 40)):
            digits = ["17"[position % 2] for position in range(count)]
            inks = [
                digitize.segment_ink(drawn(digit, seed=seed), name="it")
                for seed, digit in enumerate(digits, start=count)
            ]
            images = np.array([digitize.normalize_digit(ink, (28, 28)).image for ink in inks])
            (folder / "strokes" / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
            (folder / "strokes" / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(np.array(digits, np.uint8)))
        options = ["--dataset", "strokes", "--models", "mlp,cnn", "--epochs", "20"]
        pipeline("main", *options, env=environment, cwd=folder)
        pipeline("promote", "--model", "all", env=environment, cwd=folder)

    return made_once(tmp_path_factory, "drawings", fill)


@pytest.fixture(scope="module")
def playground(store) -> str:
    """The address of a playground that corrects into `corrected` beside the drawings."""
    options = ["--port", "0", "--browser", "false", "--dataset", "strokes", "--corrections", "corrected"]
    process = pipeline_process("playground", *options, env=store, cwd=folder_of(store))
    killer = threading.Timer(90, process.kill)
    killer.start()
    lines = iter(process.stdout.readline, "")
    address = next((found[1] for line in lines if (found := re.search(r"Playground: (http://\S+)", line))), None)
    killer.cancel()
    assert address, process.stderr.read()
    yield address
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0 and "Ended." in out, err


def draw(page: Page, digit: str) -> None:
    """Draw with the mouse, stroke by stroke."""
    box = page.locator("#canvas").bounding_box()
    scale = box["width"] / 448
    for stroke in STROKES[digit]:
        (x, y), *others = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in stroke]
        page.mouse.move(x, y)
        page.mouse.down()
        for x, y in others:
            page.mouse.move(x, y, steps=10)
        page.mouse.up()


def answers(page: Page, title: str) -> dict[str, str]:
    """By architecture what it says, once the title says this."""
    expect(page.locator("#answers-title")).to_have_text(title)
    return {
        card.get_attribute("data-architecture"): card.get_attribute("data-label")
        for card in page.locator("#answers li").all()
    }


def drop(page: Page, name: str, kind: str, content: bytes) -> None:
    """Drop a file on the page."""
    files = page.evaluate_handle(
        """([name, type, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return transfer;
        }""",
        [name, kind, list(content)],
    )
    page.dispatch_event("#canvas", "drop", {"dataTransfer": files})


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_drawing_dropping_and_correcting(playground, store, width, scheme):
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=width < 400)
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(playground)
        for digit in STROKES:
            draw(page, digit)
            assert answers(page, f"All 2 take it for {digit}") == {"cnn": digit, "mlp": digit}
            assert page.locator("#answers .time").first.inner_text().endswith(" ms")
            assert page.locator("#answers li").first.locator(".bars div").count() == 8
            assert page.locator("#seen").evaluate("image => image.naturalWidth") == 28
            page.get_by_role("button", name="Clear").click()
            assert answers(page, "Nothing drawn yet") == {}

        # A picture: drawn light on dark, the other way round than the page's own.
        drop(page, "seven.png", "image/png", png(255 - drawn("7")))
        assert answers(page, "All 2 take it for 7") == {"cnn": "7", "mlp": "7"}
        drop(page, "notes.txt", "text/plain", b"hello")
        expect(page.locator("#status")).to_contain_text("no PNG, JPEG, WebP, BMP or TIFF picture")
        assert answers(page, "Nothing drawn yet") == {}
        for name, content, says in (
            ("a.svg", b"<?xml version='1.0'?><svg/>", "is a drawing in SVG: save it as PNG"),
            ("a.pdf", b"%PDF-1.7", "is a PDF document: save its pages as pictures"),
            ("a.png", b"", "is empty"),
        ):
            drop(page, name, "", content)
            expect(page.locator("#status")).to_contain_text(says)
        # A number whose point is left out: said, and shown where it is.
        pointed = Image.fromarray(drawn("1"))
        ImageDraw.Draw(pointed).ellipse((300, 320, 335, 355), fill=0)
        drop(page, "point.png", "image/png", png(np.asarray(pointed)))
        assert answers(page, "All 2 take it for 1") == {"cnn": "1", "mlp": "1"}
        expect(page.locator("#answers .sure").first).to_contain_text("unsure: passed over 1 mark")
        drop(page, "gradient.png", "image/png", png(np.tile(np.linspace(0, 255, 400), (300, 1)).astype(np.uint8)))
        expect(page.locator("#status")).to_contain_text("shows soft shades, but no strokes")
        assert answers(page, "No answer") == {}
        drop(page, "broken.png", "image/png", b"\x89PNG nonsense")
        expect(page.locator("#status")).to_contain_text("damaged or cut off")

        # By keyboard alone: a stroke downwards.
        page.locator("#canvas").focus()
        for key in ["Space", *["Shift+ArrowDown"] * 6, "Space"]:
            page.keyboard.press(key)
        answers(page, "All 2 take it for 1")
        page.keyboard.press("Backspace")
        answers(page, "Nothing drawn yet")

        # A finger, while the palm rests beside it.
        page.get_by_role("button", name="Clear").click()
        box = page.locator("#canvas").bounding_box()
        touches = page.context.new_cdp_session(page)

        def touch(kind: str, *places: tuple[int, float, float]) -> None:
            points = [
                {"id": id, "x": box["x"] + x * box["width"], "y": box["y"] + y * box["width"]} for id, x, y in places
            ]
            touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", (1, 0.5, 0.2))
        for step in range(1, 8):
            touch("touchMove", (1, 0.5, 0.2 + 0.08 * step), (2, 0.9, 0.9 - 0.05 * (step % 2)))
        touch("touchEnd")
        answers(page, "All 2 take it for 1")
        page.get_by_role("button", name="Clear").click()

        # A seven that shall be a one.
        draw(page, "7")
        answers(page, "All 2 take it for 7")
        page.get_by_label("Right label").select_option("1")
        page.get_by_role("button", name="Save").click()
        expect(page.locator("#status")).to_contain_text("Saved as 1")

        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert not errors and {url.split("/")[2] for url in asked if url.startswith("http")} == {
            playground.split("/")[2]
        }
    corrected = folders.read_folder(folder_of(store) / "corrected", name="corrected")
    image, label = corrected.train.images[-1], corrected.train.targets[-1]
    assert label == 1 and len(corrected.train) > 160 and len(corrected.test) == 40
    expected = digitize.normalize_digit(digitize.segment_ink(drawn("7"), name="it"), (28, 28)).image
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.9
    out, _ = pipeline("prepare", "--dataset", "corrected", env=store, cwd=folder_of(store))
    assert f"corrected train: {len(corrected.train)} images of 28 x 28 px" in out


def request(address: str, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    """What the server answers, whatever is sent."""
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_server_refuses_what_it_should(playground, store):
    picture = png(drawn("1"))
    kind = {"Content_Type": "image/png"}
    before = sorted(folder_of(store).rglob("*idx*"))
    refused = [
        (request(playground, "GET", "/", Host="evil.example"), 400, "Invalid host"),
        (request(playground, "POST", "/api/answer", picture, Host="evil.example", **kind), 400, "Invalid host"),
        (request(playground, "POST", "/api/answer", picture, Content_Type="text/plain"), 415, "no PNG, JPEG"),
        (request(playground, "POST", "/api/answer", picture), 415, "no PNG, JPEG"),
        (request(playground, "POST", "/api/answer", picture, Origin="https://evil.example", **kind), 403, "own page"),
        (request(playground, "POST", "/api/answer", b"", **kind), 422, "is empty"),
        (request(playground, "POST", "/api/answer", picture[:-40], **kind), 422, "damaged or cut off"),
        (request(playground, "POST", "/api/answer", png(np.zeros((9000, 9000), np.uint8)), **kind), 422, "at most"),
        (request(playground, "POST", "/api/answer", png(np.full((99, 99), 255, np.uint8)), **kind), 422, "no ink"),
        (request(playground, "POST", "/api/answer", bytes(app.MAX_BYTES + 1), **kind), 413, "shrink it"),
        (request(playground, "POST", "/api/corrections?label=42", picture, **kind), 422, "There is no class '42'"),
        (request(playground, "POST", "/api/corrections", picture, **kind), 422, "The request's 'label' is wrong"),
        (request(playground, "GET", "/../server.py"), 404, ""),
        (request(playground, "GET", "/%2e%2e/server.py"), 404, ""),
    ]
    for (status, text), expected, says in refused:
        assert status == expected and says in text, (status, text, says)
        assert "Traceback" not in text and (status == 400 or list(json.loads(text)) == ["error"])
    assert request(playground, "POST", "/api/answer", picture, **kind)[0] == 200
    assert sorted(folder_of(store).rglob("*idx*")) == before


def test_it_listens_on_this_machine_alone(playground):
    port = int(playground.rsplit(":")[-1])
    listening = {
        entry.laddr.ip for entry in psutil.net_connections("tcp") if entry.laddr.port == port and not entry.raddr
    }
    assert listening == {"127.0.0.1"}
    assert "evil" not in app.own_names("127.0.0.1") and "127.0.0.1" in app.own_names("0.0.0.0")


def test_the_number_of_corrections_is_bounded(tmp_path, bars, monkeypatch):
    monkeypatch.setattr(corrections, "MOST", 2)
    base = folders.read_folder(bars, name="bars")
    folder = Corrections(tmp_path / "corrected", lambda: base)
    assert [folder.add(base.test.images[0], "3") for _ in range(2)] == [121, 122]
    with pytest.raises(InputError, match="start the playground again"):
        folder.add(base.test.images[0], "3")
    assert len(folders.read_folder(folder.folder, name="corrected").train) == 122


def test_a_folder_that_was_not_begun_here_is_left_alone(tmp_path, bars):
    before = {path: path.read_bytes() for path in bars.iterdir()}
    with pytest.raises(InputError, match="is no folder that the playground began"):
        Corrections(bars, lambda: None)
    assert {path: path.read_bytes() for path in bars.iterdir()} == before


def test_names_of_classes_are_kept(tmp_path, bars):
    base = folders.read_folder(bars, name="bars", classes=tuple("abcdefghij"))
    Corrections(tmp_path / "new", lambda: base).add(base.test.images[0], "c")
    again = Corrections(tmp_path / "new", lambda: None)
    assert again.classes == base.classes and again.add(base.test.images[0], "j") == 122
    assert folders.read_folder(again.folder, name="new").train.targets[-2:].tolist() == [2, 9]


def test_a_folder_cut_while_it_was_written_is_mended(tmp_path):
    base = folders.read_folder(write_idx_folder(tmp_path / "base"), name="base")
    folder = Corrections(tmp_path / "corrected", lambda: base)
    assert folder.add(base.test.images[0], "3") == 121
    # Killed after the labels were replaced and before the images were.
    labels = tmp_path / "corrected" / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.append(base.train.targets, [3, 4])))
    again = Corrections(tmp_path / "corrected", lambda: base)
    assert again.add(base.test.images[1], "5") == 122
    found = folders.read_folder(tmp_path / "corrected", name="corrected")
    assert found.train.targets[-2:].tolist() == [3, 5] and np.array_equal(found.train.images[-1], base.test.images[1])
    assert np.array_equal(found.test.images, base.test.images)


def begin(folder: Path) -> Corrections:
    """Corrections of a small data set, begun with one image."""
    base = folders.read_folder(write_idx_folder(folder / "base"), name="base")
    begun = Corrections(folder / "corrected", lambda: base)
    begun.add(base.test.images[0], "3")
    return begun


def test_a_correction_leaves_the_large_files_alone(tmp_path):
    begun = begin(tmp_path)
    large = [path for path in begun.folder.iterdir() if "idx" in path.name]

    def states() -> list[tuple[int, int, int]]:
        return [(path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) for path in large]

    before, names = states(), set(begun.folder.rglob("*"))
    for count in range(3):
        assert begun.add(np.full((28, 28), count, np.uint8), "7") == 122 + count
    assert len(large) == 4 and states() == before
    new = set(begun.folder.rglob("*")) - names
    assert len(new) == 3 and sum(path.stat().st_size for path in new) < 3 * 28 * 28


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("seven.png", png(np.zeros((28, 28), np.uint8)), "is no added image: rename it NUMBER-LABEL.png"),
        ("000009-256.png", png(np.zeros((28, 28), np.uint8)), "is no added image"),
        ("000009-7.png", png(np.zeros((28, 27), np.uint8)), "is no grey image of 28 x 28 px"),
        ("000009-7.png", png(np.zeros((28, 28, 3), np.uint8)), "is no grey image of 28 x 28 px"),
        ("000009-7.png", png(np.zeros((28, 28), np.uint8))[:-20], "cannot be read"),
        ("000009-7.png", b"", "cannot be read"),
    ],
)
def test_an_added_file_that_is_none_is_named(tmp_path, name, content, says):
    begun = begin(tmp_path)
    (begun.folder / "added" / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        sources.load(str(begun.folder), tmp_path)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_a_correction_that_was_wrong_can_be_deleted(tmp_path):
    begun = begin(tmp_path)
    for count in range(3):
        begun.add(np.full((28, 28), count, np.uint8), "7")
    (begun.folder / "added" / "000002-7.png").unlink()
    assert begun.add(np.full((28, 28), 3, np.uint8), "9") == 124
    found = sources.load(str(begun.folder), tmp_path)
    assert found.train.images[121:, 0, 0].tolist() == [1, 2, 3] and found.train.targets[121:].tolist() == [7, 7, 9]


# Adds images whose first pixels are their label, the process and a number that counts up, and says each that is added.
ADDING = """
import itertools
import sys
from pathlib import Path

import numpy as np

from pipeline.data import folders
from pipeline.playground import corrections

folder, process = Path(sys.argv[1]), int(sys.argv[2])
corrections.MOST = 10**9
found = corrections.Corrections(folder / "corrected", lambda: folders.read_folder(folder / "base", name="base"))
for number in itertools.count():
    image = np.zeros((28, 28), np.uint8)
    image[0, :4] = number * 7 % 10, process, number // 256, number % 256
    found.add(image, str(image[0, 0]))
    print(number, flush=True)
"""


def test_a_folder_is_whole_at_every_instant_and_loses_nothing_that_was_added(tmp_path):
    base = folders.read_folder(write_idx_folder(tmp_path / "base"), name="base")
    corrected, confirmed, count = tmp_path / "corrected", {}, 0
    chance = random.Random(0)

    def check(least: int) -> int:
        """Read the folder as a training does, and its IDX files as any other program does; how many images it has."""
        train = sources.load(str(corrected), tmp_path).train
        added = train.images[len(base.train) :]
        assert np.array_equal(train.images[: len(base.train)], base.train.images)
        assert np.array_equal(train.targets[len(base.train) :], added[:, 0, 0])
        for process, last in confirmed.items():
            of_it = added[added[:, 0, 1] == process][:, 0].astype(int)
            assert (of_it[:, 2] * 256 + of_it[:, 3])[: last + 1].tolist() == list(range(last + 1))
        for part, kind in (("train", "images-idx3"), ("train", "labels-idx1")):
            assert len(idx2numpy.convert_from_file(str(corrected / f"{part}-{kind}-ubyte"))) == len(base.train)
        assert len(train) >= least
        return len(train)

    for trial in range(6):
        # Two at once, which are killed at an instant of their own.
        pair = [2 * trial, 2 * trial + 1]
        processes = {
            process: subprocess.Popen(
                [sys.executable, "-c", ADDING, str(tmp_path), str(process)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=PROJECT,
            )
            for process in pair
        }
        first = {process: running.stdout.readline() for process, running in processes.items()}
        for process, running in processes.items():
            count = check(count)
            time.sleep(chance.uniform(0, 0.05))
            running.kill()
            lines = (first[process] + running.communicate()[0]).split()
            confirmed[process] = int(lines[-1])
            assert running.returncode == -signal.SIGKILL
        count = check(count)
    assert count > len(base.train) + 50


def test_a_first_correction_that_is_killed_leaves_a_whole_folder_or_none(tmp_path):
    base = folders.read_folder(write_idx_folder(tmp_path / "base", train=20_000), name="base")
    for delay in (0, 0.002, 0.005, 0.01, 0.03):
        place = tmp_path / str(delay)
        place.mkdir()
        (place / "base").symlink_to(tmp_path / "base")
        found, beside = place / "corrected", place / ".corrected.new"
        adding = subprocess.Popen(
            [sys.executable, "-c", ADDING, str(place), "0"], stdout=subprocess.DEVNULL, cwd=PROJECT
        )
        while not (found.exists() or beside.exists()):
            assert adding.poll() is None
            time.sleep(0.001)
        time.sleep(delay)
        adding.kill()
        adding.wait()
        if found.exists():
            assert len(sources.load(str(found), tmp_path).train) >= len(base.train)
        count = Corrections(found, lambda: base).add(base.test.images[0], "3")
        assert count == len(sources.load(str(found), tmp_path).train) > len(base.train)


def test_mistakes(environment, mistake, bars, command, playground):
    assert "No registered model has a champion yet" in mistake("playground", code=2)
    command("train", "--model", "mlp", "--dataset", str(bars), "--epochs", "1")
    command("promote", "--model", "bars-mlp")
    port = playground.rsplit(":")[-1]
    says = mistake("playground", "--dataset", str(bars), "--port", port, "--browser", "false", code=2)
    assert f"Nothing can listen at 127.0.0.1 port {port}" in says


def test_nothing_of_the_page_is_elsewhere():
    for file in app.PAGE.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"')]+", file.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file
