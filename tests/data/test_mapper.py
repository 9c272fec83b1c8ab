import numpy as np
import pytest
import torch

from dl_lib.data.errors import InvalidSampleError
from dl_lib.data.mapper import DatasetMapper, MappedDataset
from dl_lib.data.samplers import SampleKey
from dl_lib.data.transforms import CropPad, HorizontalFlip, RandomCropPad, RandomFlip, Resize


class FixedAugmentation:
    """Augmentation that always returns the same transform."""

    def __init__(self, transform) -> None:
        self.transform = transform

    def get_transform(self, rng, *, size):
        return self.transform


def make_mapper(augmentations=(), **changes) -> DatasetMapper:
    settings = {"channel_order": "RGB", "num_classes": 4, "ignore_value": 255, "transform_label": True}
    return DatasetMapper(augmentations, **{**settings, **changes})


def make_sample(label=None, *, size=(6, 8), name="street_7"):
    label = np.zeros(size, np.uint8) if label is None else label
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    return {"image": image, "sem_seg": label, "image_id": name, "file_name": f"{name}.png"}


def map_one(mapper, sample):
    return mapper(sample, rng=np.random.default_rng(0))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_channel_order(order):
    sample = make_sample()
    image = map_one(make_mapper(channel_order=order), sample)["image"]
    assert (image.shape, image.dtype) == ((3, 6, 8), torch.uint8)
    for channel, color in enumerate(order):
        np.testing.assert_array_equal(image[channel], sample["image"][..., "RGB".index(color)])


def test_training_transforms_image_and_label():
    label = np.arange(48).reshape(6, 8) % 4
    mapped = map_one(
        make_mapper([FixedAugmentation(HorizontalFlip(True)), FixedAugmentation(Resize(12, 16))]), make_sample(label)
    )
    assert mapped["sem_seg"].dtype == torch.uint8
    np.testing.assert_array_equal(mapped["sem_seg"], label[:, ::-1].repeat(2, 0).repeat(2, 1))
    assert mapped["image"].shape == (3, 12, 16)
    assert (mapped["height"], mapped["width"]) == (12, 16)
    assert (mapped["image_id"], mapped["file_name"]) == ("street_7", "street_7.png")


def test_evaluation_keeps_the_label_size():
    label = np.arange(48).reshape(6, 8).astype(np.uint8) % 4
    mapped = map_one(make_mapper([FixedAugmentation(Resize(3, 4))], transform_label=False), make_sample(label))
    assert mapped["image"].shape == (3, 3, 4)
    np.testing.assert_array_equal(mapped["sem_seg"], label)
    assert (mapped["height"], mapped["width"]) == (6, 8)


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize(("label_size", "is_turned"), [((8, 6), True), ((12, 16), False), ((3, 5), False)])
def test_labels_of_another_size_than_the_image_are_rejected(label_size, is_turned, is_training):
    sample = {**make_sample(), "sem_seg": np.zeros(label_size, np.uint8)}
    pattern = rf"\(street_7.png\) must have the size of the image, 6 x 8 .*Received: shape=\({label_size[0]}, "
    with pytest.raises(InvalidSampleError, match=pattern) as error:
        map_one(make_mapper(transform_label=is_training), sample)
    assert ("EXIF" in str(error.value)) == is_turned


def test_raw_sample_is_not_modified():
    sample = make_sample()
    before = sample["image"].copy()
    mapped = map_one(make_mapper(channel_order="BGR"), sample)
    mapped["image"].zero_()
    mapped["sem_seg"].fill_(3)
    np.testing.assert_array_equal(sample["image"], before)
    assert not sample["sem_seg"].any()


def test_output_size_without_label_is_the_image_size():
    sample = make_sample()
    del sample["sem_seg"]
    mapped = map_one(make_mapper([FixedAugmentation(Resize(3, 4))], transform_label=False), sample)
    assert "sem_seg" not in mapped
    assert (mapped["height"], mapped["width"]) == (6, 8)
    assert mapped["image"].shape == (3, 3, 4)


def test_training_without_label_raises():
    sample = make_sample()
    del sample["sem_seg"]
    with pytest.raises(InvalidSampleError, match=r"'street_7' \(street_7.png\) has no label.*Received: sample="):
        map_one(make_mapper(), sample)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("augmentations", [[], [FixedAugmentation(CropPad(1, 2, (3, 4), (3, 4), 0, 255))]])
def test_image_tensor_owns_its_storage(order, augmentations):
    """A view would keep the whole uncropped image alive; the memory format is channels last."""
    image = map_one(make_mapper(augmentations, channel_order=order), make_sample())["image"]
    assert image.untyped_storage().nbytes() == image.numel()
    assert image.permute(1, 2, 0).is_contiguous()


def test_read_only_arrays_are_accepted():
    sample = make_sample()
    expected = map_one(make_mapper([RandomFlip(1.0), RandomCropPad((5, 9))]), sample)
    for key in ("image", "sem_seg"):
        sample[key].flags.writeable = False
    mapped = map_one(make_mapper([RandomFlip(1.0), RandomCropPad((5, 9))]), sample)
    assert torch.equal(mapped["image"], expected["image"])
    assert torch.equal(mapped["sem_seg"], expected["sem_seg"])


def test_only_the_transformed_label_is_validated():
    """Values outside of the crop are never used, values inside always."""
    label = np.zeros((6, 8), np.uint8)
    label[0, 0] = 77
    inside, outside = (CropPad(top, 0, (3, 8), (3, 8), 0, 255) for top in (0, 3))
    with pytest.raises(InvalidSampleError, match=r"values=\[77\] in 1 of 24 pixels"):
        map_one(make_mapper([FixedAugmentation(inside)]), make_sample(label))
    assert not map_one(make_mapper([FixedAugmentation(outside)]), make_sample(label))["sem_seg"].any()
    with pytest.raises(InvalidSampleError, match=r"values=\[77\] in 1 of 48 pixels"):
        map_one(make_mapper([FixedAugmentation(outside)], transform_label=False), make_sample(label))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
@pytest.mark.parametrize("unknown", [4, 200, 254])
def test_unknown_label_value_raises(dtype, unknown):
    label = np.full((6, 8), 255, dtype)
    label[2, 3:5] = unknown
    with pytest.raises(InvalidSampleError) as caught:
        map_one(make_mapper(), make_sample(label))
    message = str(caught.value)
    assert "street_7" in message
    assert "0..3" in message
    assert "(255)" in message
    assert message.endswith(f"Received: values=[{unknown}] in 2 of 48 pixels")


@pytest.mark.parametrize(("ignore", "value"), [(-1, 255), (-2, 254), (255, -1)])
def test_negative_value_does_not_wrap_around(ignore, value):
    label = np.full((6, 8), value, np.uint8 if value > 0 else np.int32)
    with pytest.raises(InvalidSampleError, match=rf"Received: values=\[{value}\]"):
        map_one(make_mapper(ignore_value=ignore), make_sample(label))


@pytest.mark.parametrize(
    ("ignore", "dtype", "mapped_type"),
    [
        (-1, np.int8, torch.int64),
        (255, np.uint8, torch.uint8),
        (255, np.int64, torch.uint8),
        (300, np.uint16, torch.int64),
    ],
)
def test_any_ignore_index_is_kept(ignore, dtype, mapped_type):
    label = np.full((6, 8), ignore, dtype)
    label[0] = 3
    mapped = map_one(make_mapper(ignore_value=ignore), make_sample(label))
    assert mapped["sem_seg"].dtype == mapped_type
    np.testing.assert_array_equal(mapped["sem_seg"], label.astype(np.int64))


def test_more_than_256_classes():
    label = np.full((6, 8), 256, np.uint16)
    mapped = map_one(make_mapper(num_classes=300, ignore_value=65535), make_sample(label))
    assert mapped["sem_seg"].dtype == torch.int64
    assert (mapped["sem_seg"] == 256).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sem_seg": np.zeros((6, 7), np.uint8)}, r"6 x 8 \(height x width\).*Received: shape=\(6, 7\)"),
        ({"sem_seg": np.zeros((6, 8), np.float32)}, "dtype=float32"),
        ({"sem_seg": np.zeros((6, 8, 1), np.uint8)}, r"\(H, W\) integer array. Received: shape=\(6, 8, 1\)"),
        ({"image": np.zeros((6, 8), np.uint8)}, r"\(H, W, 3\) uint8. Received: shape=\(6, 8\)"),
        ({"image": np.zeros((6, 8, 3), np.float32)}, "dtype=float32"),
    ],
)
def test_invalid_arrays_raise_with_the_image_name(change, complaint):
    with pytest.raises(InvalidSampleError, match=rf"image 'street_7' \(street_7.png\) .*{complaint}"):
        map_one(make_mapper(), {**make_sample(), **change})


def test_unknown_channel_order_raises():
    with pytest.raises(ValueError, match=r"BGR, RGB. Received: channel_order='GRB'$"):
        make_mapper(channel_order="GRB")


def test_mapped_sample_depends_on_seed_epoch_and_index_only():
    raw = [make_sample(size=(30, 30), name=str(index)) for index in range(3)]
    augmentations = [RandomFlip(), RandomCropPad((9, 9))]

    def make(seed=0):
        return MappedDataset(raw, mapper=make_mapper(augmentations), seed=seed)

    def image(dataset, epoch, index):
        return dataset[SampleKey(epoch, index)]["image"]

    dataset = make()
    first = image(dataset, 0, 1)
    others = [image(dataset, 1, 1), image(dataset, 0, 2), image(make(seed=1), 0, 1)]
    assert torch.equal(image(dataset, 0, 1), first)
    assert torch.equal(image(make(), 0, 1), first)
    assert not any(torch.equal(other, first) for other in others)
