"""Names and shapes of the network's tensors in weight files, as torchvision and PyTorch have them.

Run with a Python that has PyTorch and torchvision:  make_names.py  writes names.txt beside itself.

A line is "SECTION NAME DIM DIM ...": an entry of a state dict, in the state dict's order. Sections:
resnet18 and resnet50 (torchvision's, without the classifier fc), and for either trunk the main head
(main18, main50; 47 classes) and the rotation head (rotation18, rotation50) for pictures of 224 x 224,
where a map is 7 x 7. A counter has no DIM.
"""
import os

from torch import nn
from torchvision import models

CLASSES = 47


class MainHead(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(2 * channels, 1000), nn.BatchNorm1d(1000), nn.ReLU())
        self.fc2 = nn.Linear(1000, CLASSES)


class RotationHead(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv_1x1 = nn.Sequential(nn.Conv2d(2 * channels, 100, 1), nn.BatchNorm2d(100))
        self.conv_3x3 = nn.Sequential(nn.Conv2d(100, 100, 3, 2), nn.BatchNorm2d(100))
        self.fc1 = nn.Sequential(nn.Linear(100 * 3 * 3, 100), nn.BatchNorm1d(100), nn.ReLU())
        self.fc2 = nn.Linear(100, 4)


def main():
    sections = {
        "resnet18": models.resnet18(), "main18": MainHead(512), "rotation18": RotationHead(512),
        "resnet50": models.resnet50(), "main50": MainHead(2048), "rotation50": RotationHead(2048),
    }
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "names.txt"), "w", encoding="ascii") as file:
        for section, module in sections.items():
            for name, tensor in module.state_dict().items():
                if not (section.startswith("resnet") and name.startswith("fc.")):
                    print(section, name, *tensor.shape, file=file)


main()
