"""Predict the classes of each pixel of an image, and save the image with the classes as a color overlay.

    python examples/predict_image.py street.png --weights model_final.pth --output overlay.png

Without `--weights` the weights are random. `--config-file` names a run folder, a config file or a shipped experiment.
"""

import argparse

import torch
from PIL import Image

from dl_lib.checkpoint import Checkpointer
from dl_lib.config import get_cfg
from dl_lib.data import DatasetCatalog
from dl_lib.data.reading import read_image
from dl_lib.experiment.config_file import find_config_file
from dl_lib.modeling import build_model
from dl_lib.visualization.overlay import overlay_labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--config-file", default="Dynamic/Seg.Layer16.SmallGate.Dynamic_A")
    parser.add_argument("--weights", default="")
    parser.add_argument("--output", default="overlay.png")
    arguments = parser.parse_args()

    cfg = get_cfg()
    cfg.merge_from_file(find_config_file(arguments.config_file))
    cfg.merge_from_list(["MODEL.DEVICE", "auto"])
    model = build_model(cfg).eval()
    Checkpointer(model).load(arguments.weights)

    image_HW3 = read_image(arguments.image)  # RGB, uint8
    channels = image_HW3[..., ::-1] if cfg.INPUT.FORMAT == "BGR" else image_HW3
    with torch.inference_mode():
        (output,) = model([{"image": torch.from_numpy(channels.copy()).permute(2, 0, 1).float()}])

    label_HW = output["sem_seg"].argmax(0).cpu().numpy()
    meta = DatasetCatalog.meta(cfg.DATASETS.TEST[0])
    Image.fromarray(overlay_labels(image_HW3, label_HW, meta=meta)).save(arguments.output)
    names = ", ".join(meta.class_names[index] for index in sorted(set(label_HW.flatten().tolist())))
    print(f"{output['flops']['executed_flops']:.1f} MFLOPs executed; classes: {names}")
    print(f"Saved {arguments.output}")


if __name__ == "__main__":
    main()
