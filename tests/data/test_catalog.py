import pytest

from dl_lib.data.catalog import Catalog, DatasetCatalog, DatasetMeta
from dl_lib.data.datasets.digit_scenes import DIGIT_SCENES_META
from dl_lib.data.errors import DataError, UnknownDatasetError

META = DatasetMeta(class_names=("a", "b"), class_colors=((0, 0, 0), (255, 255, 255)))


def test_loader_runs_at_get_only():
    calls = []
    catalog = Catalog()
    catalog.register("mine", lambda: calls.append(1) or "the dataset", META)
    assert catalog.meta("mine") is META
    assert catalog.names() == ("mine",)
    assert calls == []
    assert catalog.get("mine") == "the dataset"
    assert calls == [1]


def test_metadata_function_runs_once_and_on_demand():
    calls = []
    catalog = Catalog()
    catalog.register("mine", lambda: "the dataset", lambda: calls.append(1) or META)
    assert calls == []
    assert catalog.meta("mine") is catalog.meta("mine") is META
    assert calls == [1]


def test_registering_an_equal_entry_has_no_effect():
    def make():
        return "the dataset"

    catalog = Catalog()
    catalog.register("mine", make, META)
    assert catalog.accepts("mine", make, META)
    catalog.register("mine", make, META)
    other = DatasetMeta(class_names=("a", "b"), class_colors=META.class_colors, ignore_value=7)
    assert not catalog.accepts("mine", make, other)
    with pytest.raises(ValueError, match="another dataset is registered"):
        catalog.register("mine", make, other)


def test_registering_another_dataset_under_a_name_raises():
    catalog = Catalog()
    catalog.register("mine", lambda: "first", META)
    with pytest.raises(ValueError, match=r"another dataset is registered.*Received: name='mine'$"):
        catalog.register("mine", lambda: "second", META)
    assert catalog.get("mine") == "first"


@pytest.mark.parametrize("name", ["../escaped", "/tmp/absolute", "a/b", "line\nbreak", "x" * 500])
def test_name_that_is_no_file_name_is_rejected(name):
    catalog = Catalog()
    with pytest.raises(DataError, match=r"must be text of 1 to 80 bytes without /.*Received: name='.{,200}$"):
        catalog.register(name, lambda: "first", META)
    assert catalog.names() == ()


@pytest.mark.parametrize("method", ["get", "meta"])
def test_unknown_name_raises_with_the_nearest_names(method):
    with pytest.raises(UnknownDatasetError) as caught:
        getattr(DatasetCatalog, method)("digit_scene_train")
    assert isinstance(caught.value, KeyError)
    message = str(caught.value)
    assert "digit_scenes_train, digit_scenes_val" in message
    assert message.endswith("Received: name='digit_scene_train'")


def test_unknown_name_without_near_names_raises_with_all_names():
    catalog = Catalog()
    catalog.register("mine", lambda: "first", META)
    with pytest.raises(UnknownDatasetError, match="available: mine"):
        catalog.get("???")
    with pytest.raises(UnknownDatasetError, match="none exist"):
        Catalog().get("mine")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"class_names": ("a", "a")}, "must be unique"),
        ({"class_colors": ((0, 0, 0),)}, "one color for each of the 2 classes"),
        ({"ignore_value": 1}, "class ids 0..1"),
    ],
)
def test_inconsistent_metadata_raise(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        DatasetMeta(**{"class_names": META.class_names, "class_colors": META.class_colors, **change})


def test_digit_scenes_have_eleven_distinct_colors():
    assert {"digit_scenes_train", "digit_scenes_val"} <= set(DatasetCatalog.names())
    meta = DatasetCatalog.meta("digit_scenes_val")
    assert meta is DIGIT_SCENES_META
    assert meta.class_names == ("background", *"0123456789")
    colors = meta.class_colors
    assert min(sum(abs(p - q) for p, q in zip(a, b, strict=True)) for a in colors for b in colors if a != b) >= 100
    assert len(set(colors)) == 11
