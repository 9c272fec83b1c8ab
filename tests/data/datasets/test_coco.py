"""COCO datasets: labels against pycocotools on a miniature dataset, and invalid files."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from dl_lib.config import ConfigError, get_cfg
from dl_lib.data.catalog import Catalog
from dl_lib.data.datasets.coco import register_coco_sem_seg
from dl_lib.data.errors import DataError, InvalidSampleError, MissingDataError, UnreadableFileError
from dl_lib.validation import validate_config
from tests.helpers.dataset_files import COCO_CATEGORY_IDS, write_coco

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in pycocotools' decode


@pytest.fixture
def root(root):
    write_coco(root)
    return root


def registered(**changes):
    catalog = Catalog()
    settings = {"json": "coco/annotations.json", "images": "coco/images", "catalog": catalog, **changes}
    register_coco_sem_seg("mine", **settings)
    return catalog


def edit(root, change):
    path = root / "coco" / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def label_from_pycocotools(root, image_id, *, unlabelled, first_label):
    coco = COCO(str(root / "coco" / "annotations.json"))
    image = coco.imgs[image_id]
    label = np.full((image["height"], image["width"]), unlabelled)
    masks = [(annotation, coco.annToMask(annotation) > 0) for annotation in coco.imgToAnns[image_id]]
    for annotation, mask in masks:
        if annotation.get("iscrowd"):
            label[mask] = 255
    order = sorted(coco.getCatIds())
    for annotation, mask in sorted(masks, key=lambda pair: -pair[1].sum()):
        if not annotation.get("iscrowd"):
            label[mask] = first_label + order.index(annotation["category_id"])
    return label


@pytest.mark.parametrize("background", ["background", "nothing", None])
def test_labels_match_pycocotools(root, background, capsys):
    catalog = registered(background=background)
    dataset = catalog.get("mine")
    first_label = 0 if background is None else 1
    unlabelled = 255 if background is None else 0
    samples = [dataset[index] for index in range(len(dataset))]
    assert capsys.readouterr().out == ""
    assert [sample["image_id"] for sample in samples] == ["98", "99", "100"]
    for sample in samples:
        expected = label_from_pycocotools(root, int(sample["image_id"]), unlabelled=unlabelled, first_label=first_label)
        np.testing.assert_array_equal(sample["sem_seg"], expected)
        assert sample["sem_seg"].dtype == np.uint8
        assert sample["file_name"] == str(root / "coco" / "images" / f"{int(sample['image_id']):012d}.jpg")
        assert sample["image"].shape == (64, 96, 3)
    assert (samples[0]["sem_seg"] == unlabelled).all()  # image without annotations
    for sample in samples[1:]:
        assert {255, first_label + 9} < set(np.unique(sample["sem_seg"]).tolist())  # crowd and rectangle
    names = [f"digit {COCO_CATEGORY_IDS.index(number)}" for number in sorted(COCO_CATEGORY_IDS)]
    assert catalog.meta("mine").class_names == tuple([background] * first_label + names)


def test_unicode_forms_of_file_names_are_equal(root):
    path = root / "coco" / "annotations.json"
    content = json.loads(path.read_text())
    for entry, in_file, on_disk in zip(content["images"], ("\u00e9", "u\u0308"), ("e\u0301", "\u00fc"), strict=False):
        (root / "coco" / "images" / entry["file_name"]).rename(root / "coco" / "images" / f"{on_disk}.jpg")
        entry["file_name"] = f"{in_file}.jpg"
    path.write_text(json.dumps(content))
    dataset = registered().get("mine")
    assert [Path(dataset[index]["file_name"]).name for index in (1, 2)] == ["\u00fc.jpg", "e\u0301.jpg"]
    assert dataset.fingerprint()


def test_files_of_windows_and_masks_of_cvat(root, caplog):
    before = [sample["sem_seg"] for sample in registered().get("mine")]
    (root / "coco" / "images").rename(root / "coco" / "sub")
    edit(root, lambda content: [e.update(file_name=f"sub\\{e['file_name']}") for e in content["images"]])
    np.testing.assert_equal([sample["sem_seg"] for sample in registered(images="coco").get("mine")], before)
    assert not caplog.records
    edit(root, lambda content: [entry.update(iscrowd=1) for entry in content["annotations"]])
    registered(images="coco").get("mine")
    assert (
        "annotations are crowds and ignored; set iscrowd to 0 if they are single objects, such as masks" in caplog.text
    )


def test_metadata_are_read_once_and_on_demand(root):
    path = root / "coco" / "annotations.json"
    content = path.read_text()
    path.unlink()
    catalog = registered()
    for read in (catalog.get, catalog.meta):
        with pytest.raises(MissingDataError, match=r"Expected a COCO annotation file.*annotations\.json'$"):
            read("mine")
    path.write_text(content)
    meta = catalog.meta("mine")
    path.unlink()
    assert catalog.meta("mine") is meta
    assert meta.num_classes == 11


def test_more_than_256_classes(root):
    def add_categories(content):
        content["categories"] += [{"id": number, "name": str(number)} for number in range(100, 400)]
        content["annotations"][0]["category_id"] = 399

    edit(root, add_categories)
    with pytest.raises(DataError, match=r"are invalid as classes: ignore_value must not .* 0\.\.310"):
        registered().get("mine")
    catalog = registered(ignore_value=65535)
    label = catalog.get("mine")[2]["sem_seg"]
    assert label.dtype == np.uint16
    assert {310, 65535} < set(np.unique(label).tolist())
    assert catalog.meta("mine").num_classes == 311


@pytest.mark.parametrize("ignore_value", [-1, 65536])
def test_ignore_value_out_of_range_raises(ignore_value):
    with pytest.raises(ValueError, match=rf"0\.\.65535\. Received: ignore_value={ignore_value}$"):
        registered(ignore_value=ignore_value)


def first(part, **changes):
    """Return a change of the first entry of a part; a change to None removes the key."""

    def change(content):
        entry = content[part][0]
        entry.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del entry[key]

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda c: c["annotations"][1].update(image_id=7),
            r"annotation 2: image_id .* in images. Received: image_id=7",
        ),
        (
            first("annotations", image_id="100"),
            "annotation 1: image_id .* the ids there are integers. .*image_id='100'",
        ),
        (first("annotations", category_id=91), r"annotation 1: category_id must be an id in categories. .*=91"),
        (first("annotations", category_id=None), r"annotation 1: category_id is missing; .*keys=\['id', 'image_id', "),
        (first("annotations", id=2), r"ids of annotations must be .* repeated ids=\[2\]$"),
        (first("annotations", id=None), r"annotations\[0\]: id is missing"),
        (first("annotations", id=True), "annotation True: id must be an integer or text"),
        (first("annotations", segmentation=None), "annotation 1: segmentation is missing"),
        (first("annotations", segmentation=[]), r"annotation 1: .*that only have a box.*list \[\]\n.* annotations=1$"),
        (first("annotations", segmentation=[[float("nan")] * 6]), r"annotation 1: .*polygon=\[nan, nan"),
        (
            first("annotations", segmentation={"size": [64, 96], "counts": [2**63 - 1, 3]}),
            "annotation 1: counts .*6144",
        ),
        (first("images", id=99), r"ids of images must be unique.*Received: repeated ids=\[99\]$"),
        (first("images", id="98"), r"ids of images must be all integers or all text. Received: ids=\['98', \d+\]$"),
        (first("images", id=1.5), "image 1.5: id must be an integer or text. Received: id=1.5"),
        (first("images", height=None), "image 100: height is missing"),
        (first("images", height="64"), "image 100: height must be a positive integer .* Received: height='64'"),
        (first("images", width=0), "image 100: width must be a positive integer"),
        (first("images", width=float("inf")), "image 100: width must be a positive integer"),
        (first("images", height=10**6, width=10**6), "image 100: height x width must be at most"),
        (
            first("images", file_name="a\0b"),
            r"image 100: file_name must be text without control characters. Received: file_name='a\\x00b'",
        ),
        (first("images", file_name="\ud800"), "image 100: file_name must be text"),
        (
            lambda c: c["images"][1].update(file_name=f"./{c['images'][0]['file_name']}"),
            r"file_name must be unique in images; .*Received: repeated file_name=\['0+100\.jpg'\]$",
        ),
        (
            lambda c: [entry.update(segmentation=[[0, 0, 0.5, 0, 1, 1]]) for entry in c["annotations"]],
            "polygons must have coordinates in pixels; .*Received: all coordinates between 0 and 1$",
        ),
        (
            lambda c: [entry.update(file_name=f"images/{entry['file_name']}") for entry in c["images"]],
            r"it contains none of 3 images\. Received: images='coco/images', file_name='images/0+98\.jpg'$",
        ),
        (first("categories", name="a\x1b[31m"), r"category 90: name must be text .*Received: name='a\\x1b\[31m'"),
        (lambda c: c.update(images=[1]), r"images\[0\]: must be an object. Received: int 1"),
        (lambda c: c.update(images=[None] * 9), r"images\[2\]: .*\n  \.\.\.\n.*Received: invalid images=9$"),
        (first("categories", id=1), r"ids of categories .*ids=\[1\]$"),
        (
            first("categories", name=[]),
            r"category 90: name must be text without control characters. Received: name=\[\]",
        ),
        (lambda c: [entry.update(name="_Background") for entry in c["categories"][:2]], "only one category can be"),
        (
            lambda c: [entry.update(name="x") for entry in c["categories"][:2]],
            "invalid as classes: class_names must be",
        ),
        (lambda c: c.update(images=[], annotations=[]), "lists no images"),
        (lambda c: c.pop("categories"), r"Expected an object with the lists .*Received: \['annotations', 'images'\]"),
        (lambda c: c.update(images={}), "lists images, annotations, categories"),
        (lambda c: c.update(coco={"images": c.pop("images")}), "categories, not nested in another object"),
        (lambda c: (c.pop("categories"), c["annotations"][0].update(caption="a cat")), "captions have no regions"),
        (first("annotations", segments_info=[]), "convert panoptic annotations with panopticapi"),
    ],
)
def test_invalid_file_is_found_when_it_is_read(root, change, complaint):
    edit(root, change)
    with pytest.raises(DataError, match=rf"(?s)coco/annotations\.json.*{complaint}"):
        registered().get("mine")


@pytest.mark.parametrize("image_id", ["../a", "/a", "a\nb"])
def test_image_id_that_is_no_file_name_raises(root, image_id):
    edit(root, lambda content: content.update(images=[{**content["images"][0], "id": image_id}], annotations=[]))
    with pytest.raises(DataError, match=r"name of a prediction file.*Received: id="):
        registered().get("mine")


def test_flags_are_read_as_numbers_and_text(root):
    def change(content):
        next(entry for entry in content["annotations"] if "iscrowd" in entry)["iscrowd"] = value

    labels = {}
    for value in (0, 1, False, True, 0.0, "0", "1", "false", "True", None, "no", 2, [], "null"):
        edit(root, change)
        try:
            labels[repr(value)] = int((registered().get("mine")[2]["sem_seg"] == 255).sum())
        except DataError as error:
            assert f": iscrowd must be 0, 1, true or false. Received: iscrowd={value!r}" in str(error)
    absent, present = labels["0"], labels["1"]
    assert absent < present
    assert {value for value, pixels in labels.items() if pixels == absent} == {
        "0",
        "None",
        "False",
        "0.0",
        "'0'",
        "'false'",
    }
    assert {value for value, pixels in labels.items() if pixels == present} == {"1", "True", "'1'", "'True'"}


@pytest.mark.parametrize("name", ["background", "_background_", "Background"])
def test_category_can_be_the_class_of_pixels_without_annotation(root, name):
    before = registered().get("mine")[2]["sem_seg"]
    edit(root, lambda content: content["categories"][0].update(name=name))  # the last one in the order of the ids
    catalog = registered()
    label = catalog.get("mine")[2]["sem_seg"]
    assert catalog.meta("mine").class_names[0] == name
    assert catalog.meta("mine").num_classes == 10
    np.testing.assert_array_equal(label, np.where(before == 10, 0, before))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\ufffe", "[" * 10**5])
def test_invalid_file_raises(root, text):
    (root / "coco" / "annotations.json").write_bytes(text.encode("utf-16"))
    with pytest.raises(UnreadableFileError, match=r"\.json is (damaged or not a JSON file|not in COCO format)"):
        registered().get("mine")


def test_image_size_mismatch_raises(root):
    edit(root, lambda content: content["images"][2].update(height=96, width=64))
    message = r"image '98' \(.*\.jpg\) must have .* 96 x 64 .*swapped; if the image has an EXIF .*: 64 x 96 pixels$"
    with pytest.raises(InvalidSampleError, match=message):
        registered().get("mine")[0]


def test_missing_image_raises_on_access(root):
    (root / "coco" / "images" / "000000000099.jpg").unlink()
    with pytest.raises(MissingDataError, match=r"0099\.jpg"):
        registered().get("mine")[1]
    (root / "coco" / "images").rename(root / "elsewhere")
    with pytest.raises(MissingDataError, match=r"coco/images'$"):
        registered().get("mine")


def test_unreadable_metadata_are_a_config_problem(root, own_catalog):
    name = "coco_test_set"
    register_coco_sem_seg(name, json="coco/absent.json", images="coco/images")
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = [name]
    with pytest.raises(ConfigError, match=rf"DATASETS\.TRAIN: the classes of {name} cannot be read: .*absent\.json'$"):
        validate_config(cfg)
