"""Tables of an evaluation read back: equal to the result; damaged files are refused."""

import pytest

from dl_lib.config import ConfigError
from dl_lib.evaluation.report.csv_files import read_confusion, read_images
from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from tests.helpers.evaluation import IGNORE, NAMES, batches_of, make_samples
from tests.helpers.reports import ModelOfLattice, write

ROW = "image_id,mIoU,real_gflops,seconds\n"


def test_tables_are_those_of_the_result(tmp_path):
    evaluator = SemSegEvaluator("some_val", class_names=NAMES, ignore_value=IGNORE)
    samples = make_samples(4)
    samples[0]["image_id"] = '=a,"b" 語'
    samples[1]["sem_seg"][:] = IGNORE
    result = inference_on_dataset(ModelOfLattice(), batches_of(samples), evaluator)
    write({"some_val": result}, tmp_path)
    images = read_images(tmp_path / "per_image.csv")
    assert [row.image_id for row in images] == ['\'=a,"b" 語', "image_1", "image_2", "image_3"]
    assert images[1].mean_iou is None
    for row, image in zip(images, result.images, strict=True):
        assert row.real_gflops * 1e9 == pytest.approx(image.costs.real)
        assert (row.mean_iou, row.seconds) == (image.scores and image.scores.mean_iou, image.seconds)
    names, pixels = read_confusion(tmp_path / "confusion.csv")
    assert names == NAMES and pixels.tolist() == result.confusion.tolist()


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"a,b\n1,2\n", b"\xff\xfe", ROW.encode(), f"{ROW}a,0.5,nan,1\n".encode(), f"{ROW}a,0.5\n".encode()),
        *(f"{ROW}a,1,1,-1\n".encode(), f"{ROW}a,,1,1\na,,1,1\n".encode(), f'{ROW}"a,1,1,1'.encode()),
        *(f"{ROW}a,1.5,1,1\n".encode(), f"{ROW}a,1,1e300,1\n".encode()),
    ],
)
def test_damaged_tables_of_images(tmp_path, content):
    (tmp_path / "per_image.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=r"per_image.csv is not a table of an evaluation, or is damaged; evaluate"):
        read_images(tmp_path / "per_image.csv")


@pytest.mark.parametrize(
    "content",
    [
        "",
        ",a,b\na,1,2\n",
        ",a,b\na,1,2\nc,1,2\n",
        ",a\na,-1\n",
        f",a\na,{2**70}\n",
        f",a,b\na,1,{2**62}\nb,1,1\n",
        ",a,b\na,1\nb,1,2\n",
        ",a\na,1\na,1\n",
        ",a\na,1\n\n",
        ",\n",
        ",a\na,1e3\n",
    ],
)
def test_damaged_confusion_matrices(tmp_path, content):
    (tmp_path / "confusion.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"confusion.csv is not a table of an evaluation, or is damaged; evaluate"):
        read_confusion(tmp_path / "confusion.csv")


def test_a_missing_table(tmp_path):
    with pytest.raises(ConfigError, match=r"per_image.csv cannot be read \(No such file"):
        read_images(tmp_path / "per_image.csv")
