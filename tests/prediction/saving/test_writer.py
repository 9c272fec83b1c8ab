"""Files of predictions: formats of images and videos, and what counts as complete."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from dl_lib.data.errors import InvalidSampleError
from dl_lib.prediction.saving.kinds import FORMATS
from dl_lib.prediction.saving.writer import RECORDS_NAME, OutputWriter
from dl_lib.utils.files import WriteError
from tests.helpers.predictions import GFLOPS, make_result


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def records_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_video(writer, name, frames, *, frames_per_second=12.5):
    with writer.video(name, frames_per_second=frames_per_second) as video:
        for frame in frames:
            video.add(frame)


def test_files_of_an_image(tmp_path):
    result = make_result()
    OutputWriter(tmp_path, formats=FORMATS).write("sub/a.jpg", result)
    expected = ["labels/sub/a.jpg.png", "overlays/sub/a.jpg.jpg", "predictions.jsonl", "probabilities/sub/a.jpg.npy"]
    assert files_of(tmp_path) == expected
    labels = Image.open(tmp_path / expected[0])
    np.testing.assert_array_equal(np.array(labels), result.classes)
    assert labels.mode == "P"
    np.testing.assert_array_equal(labels.convert("RGB"), np.array(result.meta.class_colors)[result.classes])
    probabilities = np.load(tmp_path / expected[3])
    assert probabilities.dtype == np.float16
    np.testing.assert_allclose(probabilities, result.probabilities, rtol=1e-3)


def test_results_print_without_their_pixels():
    result = make_result(size=(64, 64))
    assert repr(result) == f"PredictedImage(name='given', gflops={GFLOPS}, seconds=0.25)"


def test_overlays_show_the_tinted_image(tmp_path):
    noise = make_result()
    result = replace(noise, image=np.full_like(noise.image, (200, 100, 50)), classes=np.ones_like(noise.classes))
    OutputWriter(tmp_path, formats=["overlays"]).write("a.png", result)
    overlay = np.array(Image.open(tmp_path / "overlays/a.png.jpg")).astype(int)
    assert np.abs(overlay - result.overlay()).max() <= 3, "JPEG keeps one color almost unchanged"


def test_record_of_an_image(tmp_path):
    result, static = make_result(), make_result(routed=False)
    writer = OutputWriter(tmp_path, formats=["json"])
    writer.write("sub/a.jpg", result)
    writer.write("b.png", static)
    routed, other = records_of(tmp_path / RECORDS_NAME)
    fractions = {f"class {index}": round((result.classes == index).mean(), 6) for index in range(3)}
    edges = [str(edge) for edge, gate in zip(result.route.lattice.edges, result.route.gates_BE[0], strict=True) if gate]
    assert routed == {
        "file": "sub/a.jpg",
        "height": 6,
        "width": 9,
        "gflops": GFLOPS,
        "seconds": 0.25,
        "class_fractions": fractions,
        "open_edges": edges,
    }
    assert (other["file"], other["gflops"], other["open_edges"]) == ("b.png", None, None)


@pytest.mark.parametrize("gflops", [GFLOPS, {"real": 2.0}, {}])
def test_known_costs_are_recorded(tmp_path, gflops):
    writer = OutputWriter(tmp_path, formats=["json"])
    frames = [make_result(size=(32, 32), gflops={key: value + add for key, value in gflops.items()}) for add in (0, 1)]
    writer.write("a.png", frames[0])
    write_video(writer, "clip.mp4", frames)
    image, video = records_of(tmp_path / RECORDS_NAME)
    assert image["gflops"] == (gflops or None)
    assert video["gflops"] == ({key: value + 0.5 for key, value in gflops.items()} or None)


def test_more_classes_than_a_palette_has_become_gray_values_of_16_bits(tmp_path):
    result = make_result(num_classes=300)
    OutputWriter(tmp_path, formats=["labels"]).write("a.png", result)
    labels = cv2.imread(str(tmp_path / "labels/a.png.png"), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, result.classes)


@pytest.mark.parametrize("size", [(48, 64), (35, 51)])
def test_video_round_trip(tmp_path, size):
    frames = [make_result(size=size, seed=seed) for seed in range(4)]
    frames = [frame for frame in frames for _ in range(2)]
    write_video(OutputWriter(tmp_path, formats=FORMATS), "sub/clip.avi", frames)
    assert {name.partition("/")[0] for name in files_of(tmp_path)} == {
        *("frames", "labels", "overlays", "probabilities", RECORDS_NAME)
    }
    capture = cv2.VideoCapture(str(tmp_path / "overlays/sub/clip.avi.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 12.5
    drawn = [capture.read()[1] for _ in frames]
    capture.release()
    assert all(frame.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3) for frame in drawn)
    labels = sorted((tmp_path / "labels/sub/clip.avi").iterdir())
    assert [path.name for path in labels] == [f"{number:06d}.png" for number in range(8)]
    np.testing.assert_array_equal(np.array(Image.open(labels[5])), frames[5].classes)
    lines = records_of(tmp_path / "frames/sub/clip.avi.jsonl")
    assert [line["frame"] for line in lines] == list(range(8)) and lines[0].keys() - lines[7].keys() == set()
    (video,) = records_of(tmp_path / RECORDS_NAME)
    assert video["file"] == "sub/clip.avi" and (video["frames"], video["frames_per_second"]) == (8, 12.5)
    assert video["gflops"]["real"] == pytest.approx(2.0) and video["seconds"] == pytest.approx(8 * 0.25)
    mean = np.mean([line["class_fractions"]["class 1"] for line in lines])
    assert video["class_fractions"]["class 1"] == pytest.approx(mean, abs=1e-5)


def test_an_interrupted_video_leaves_nothing(tmp_path):
    writer = OutputWriter(tmp_path, formats=FORMATS)
    with pytest.raises(KeyboardInterrupt), writer.video("clip.mp4", frames_per_second=25.0) as video:
        video.add(make_result(size=(32, 32)))
        raise KeyboardInterrupt
    assert files_of(tmp_path) == []
    assert not writer.is_complete("clip.mp4")


def test_a_video_that_was_not_written_completely_is_an_error(tmp_path):
    writer = OutputWriter(tmp_path, formats=["overlays"])
    with pytest.raises(WriteError, match=r"cannot write clip\.mp4\.mp4: the video is incomplete"):  # noqa: SIM117
        with writer.video("clip.mp4", frames_per_second=25.0) as video:
            video.add(make_result(size=(32, 32)))
            (tmp_path / "overlays/clip.mp4.partial.mp4").unlink()
    assert files_of(tmp_path) == []


@pytest.mark.parametrize("formats", [FORMATS, ("json",), ("labels", "probabilities")])
def test_complete_inputs_are_found_again(tmp_path, formats):
    writer = OutputWriter(tmp_path, formats=formats)
    for name in ("a.png", "b.png"):
        writer.write(name, make_result())
    write_video(writer, "clip.mp4", [make_result(size=(32, 32))])
    resumed = OutputWriter(tmp_path, formats=formats)
    resumed.resume()
    assert [name for name in ("a.png", "b.png", "c.png", "clip.mp4") if resumed.is_complete(name)] == [
        *("a.png", "b.png", "clip.mp4")
    ]


def test_the_file_of_another_input_does_not_complete_one(tmp_path):
    """The label of an image without a suffix has the name that the frames of a video `x.png` would have."""
    writer = OutputWriter(tmp_path, formats=["labels"])
    writer.write("x", make_result())
    (tmp_path / "labels/folder.png").mkdir()
    (tmp_path / "labels/clip.mp4").touch()
    found = [name for name in ("x", "x.png", "folder", "folder.png", "clip.mp4") if writer.is_complete(name)]
    assert found == ["x"]


@pytest.mark.parametrize("names", [("a.png", "a.png.png/x.png"), ("a.png.png/x.png", "a.png")])
def test_names_that_another_output_has_are_data_errors(tmp_path, names):
    writer = OutputWriter(tmp_path, formats=["labels"])
    writer.write(names[0], make_result())
    with pytest.raises(InvalidSampleError, match=rf"^{names[1]}: the output of another input .*Received: path="):
        writer.write(names[1], make_result())
    assert [writer.is_complete(name) for name in names] == [True, False]


def test_a_video_without_its_folder_leaves_nothing(tmp_path):
    writer = OutputWriter(tmp_path, formats=["labels", "json"])
    (tmp_path / "frames").touch()
    with pytest.raises(InvalidSampleError, match=r"^clip\.mp4: "):
        write_video(writer, "clip.mp4", [])
    assert files_of(tmp_path) == ["frames"] and not any((tmp_path / "labels").iterdir())


@pytest.mark.parametrize(("size", "rate"), [((16, 9000), 25.0), ((32, 32), 90_000.0)])
def test_overlays_that_cannot_be_encoded_are_data_errors(tmp_path, size, rate):
    writer = OutputWriter(tmp_path, formats=["labels", "overlays"])
    with pytest.raises(InvalidSampleError, match=r"^given: MPEG-4 cannot .* \(--save labels,json\)\. Received: "):
        write_video(writer, "clip.mp4", [make_result(size=size)], frames_per_second=rate)
    assert files_of(tmp_path) == []


def test_damaged_lines_and_those_without_files_are_removed_on_resume(tmp_path):
    writer = OutputWriter(tmp_path, formats=FORMATS)
    for name in ("a.png", "b.png", "c.png", "d.png"):
        writer.write(name, make_result())
    lines = (tmp_path / RECORDS_NAME).read_bytes().splitlines(keepends=True)
    damaged = [lines[0], b'{"file": 3}\n', b"\0\0[[\n", lines[0], *lines[1:3], lines[3][:40]]
    (tmp_path / RECORDS_NAME).write_bytes(b"".join(damaged))
    (tmp_path / "labels/b.png.png").write_bytes(b"")
    (tmp_path / "overlays/c.png.jpg").unlink()
    resumed = OutputWriter(tmp_path, formats=FORMATS)
    resumed.resume()
    assert (tmp_path / RECORDS_NAME).read_bytes() == lines[0]
    assert [resumed.is_complete(name) for name in ("a.png", "b.png", "c.png", "d.png")] == [True, False, False, False]
