"""The experiment in PyTorch: torchvision's trunks, both heads, losses, one step, pictures, checkpoints.

What the scripts beside this one compare Rodeo with. The modules' state dicts have the names that the
original PyTorch program gives them.
"""
import os
import sys
import time

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.transforms import functional as transforms

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
from philox import philox_words  # pylint: disable=wrong-import-position

MODULES = ("rgb", "depth", "main", "rotation")
RNG_DROPOUT = 4  # base/rng.h
ENTROPY_FLOOR = 1e-6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NarrowResNet(ResNet):
    """torchvision's ResNet with `width` channels in its first stage instead of 64."""

    def __init__(self, block, layers, width):
        super().__init__(block, layers)
        self.inplanes, self.dilation = width, 1
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        for stage, count in enumerate(layers):
            made = self._make_layer(block, width << stage, count, stride=1 if stage == 0 else 2)
            setattr(self, f"layer{stage + 1}", made)
        self.fc = nn.Linear(self.inplanes, 1000)


def resnet(arch, width):
    if width == 64:
        return getattr(torchvision.models, arch)()
    block, layers = {"resnet18": (BasicBlock, [2, 2, 2, 2]),
                     "resnet50": (Bottleneck, [3, 4, 6, 3])}[arch]
    return NarrowResNet(block, layers, width)


class Trunk(nn.Module):
    """A ResNet without its classifier: gives the map and its mean."""

    def __init__(self, arch, width):
        super().__init__()
        body = resnet(arch, width)
        self.channels = body.fc.in_features
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            setattr(self, name, getattr(body, name))

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x, x.mean((2, 3))


class KeyedDropout(nn.Module):
    """Dropout with Rodeo's mask: a function of the seed, the step and the element's place in the
    merged batch of the head's groups (kernels/ops.h, op_dropout)."""

    def __init__(self, p, layer, seed):
        super().__init__()
        self.p, self.layer, self.seed = p, layer, seed
        self.step, self.first_row = 0, 0

    def forward(self, x):
        if not self.training or self.p == 0:
            return x
        rows, columns = x.shape
        first = self.first_row * columns
        words = philox_words(self.seed, first + rows * columns, RNG_DROPOUT << 24 | self.layer,
                             self.step & 0xFFFFFFFF, self.step >> 32)
        kept = words[first:] >= round(self.p * 2**32)
        return x * torch.from_numpy(kept.reshape(rows, columns)).to(x.dtype) / (1 - self.p)


class MainHead(nn.Module):
    def __init__(self, features, classes, dropout):
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(features, 1000), nn.BatchNorm1d(1000), nn.ReLU(), dropout)
        self.fc2 = nn.Linear(1000, classes)

    def forward(self, pooled):
        return self.fc2(self.fc1(pooled))


class RotationHead(nn.Module):
    def __init__(self, features, side, dropout):
        super().__init__()
        out = (side - 3) // 2 + 1
        self.conv_1x1 = nn.Sequential(nn.Conv2d(features, 100, 1), nn.BatchNorm2d(100), nn.ReLU())
        self.conv_3x3 = nn.Sequential(nn.Conv2d(100, 100, 3, 2), nn.BatchNorm2d(100), nn.ReLU())
        self.fc1 = nn.Sequential(nn.Linear(100 * out * out, 100), nn.BatchNorm1d(100), nn.ReLU(),
                                 dropout)
        self.fc2 = nn.Linear(100, 4)

    def forward(self, maps):
        return self.fc2(self.fc1(self.conv_3x3(self.conv_1x1(maps)).flatten(1)))


def initialise_head(module):
    """The original program's initial values of a head; for module.apply."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        nn.init.normal_(module.weight, 1.0, 0.01)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01)
        nn.init.normal_(module.bias, 0.0, 0.01)


def entropy(logits):
    p = functional.softmax(logits, 1)
    p = p[p >= ENTROPY_FLOOR]
    return -(p * p.log()).sum() / len(logits)


class Net:
    """The four modules, built for the settings in a plan's first line or a checkpoint."""

    def __init__(self, settings):
        arch, width = settings["arch"], settings["arch_width"]
        self.rgb, self.depth = Trunk(arch, width), Trunk(arch, width)
        features = 2 * self.rgb.channels
        side = -(-settings["crop_size"] // 32)
        seed = int(settings["seed"])
        self.drop_main = KeyedDropout(settings["dropout_p"], 0, seed)
        self.drop_rotation = KeyedDropout(settings["rotation_dropout_p"], 1, seed)
        self.main = MainHead(features, settings["classes"], self.drop_main)
        self.rotation = RotationHead(features, side, self.drop_rotation)
        self.modules = [getattr(self, name) for name in MODULES]

    def initialise_heads(self):
        self.main.apply(initialise_head)
        self.rotation.apply(initialise_head)

    def load(self, tensors):
        """tensors: {name: tensor} as Rodeo's checkpoints name them."""
        for name, module in zip(MODULES, self.modules):
            start = name + "."
            module.load_state_dict({key[len(start):]: value for key, value in tensors.items()
                                    if key.startswith(start)})

    def state(self):
        return {f"{name}.{key}": value for name, module in zip(MODULES, self.modules)
                for key, value in module.state_dict().items()}

    def parameters(self):
        return {f"{name}.{key}": value for name, module in zip(MODULES, self.modules)
                for key, value in module.named_parameters()}

    def train(self, mode=True):
        for module in self.modules:
            module.train(mode)

    def to(self, dtype):
        for module in self.modules:
            module.to(dtype)

    def classify(self, rgb, depth):
        return self.main(torch.cat([self.rgb(rgb)[1], self.depth(depth)[1]], 1))

    def tell_rotation(self, rgb, depth):
        return self.rotation(torch.cat([self.rgb(rgb)[0], self.depth(depth)[0]], 1))

    def optimizers(self, settings):
        rates = [settings["lr"]] * 2 + [settings["lr"] * settings["lr_mult"]] * 2
        return [torch.optim.SGD(module.parameters(), rate, settings["momentum"],
                                weight_decay=settings["weight_decay"])
                for module, rate in zip(self.modules, rates)]


def picture(path, settings, plan, turns):
    """One picture as the network reads it, [3, crop, crop]: PIL and torchvision's transforms."""
    size, crop = settings["image_size"], settings["crop_size"]
    image = transforms.resize(Image.open(path).convert("RGB"), [size, size])
    image = transforms.crop(image, plan["top"], plan["left"], crop, crop)
    if plan["flip"]:
        image = transforms.hflip(image)
    image = transforms.rotate(image, 90 * turns)
    return transforms.normalize(transforms.to_tensor(image), MEAN, STD)


def group_tensors(pairs, settings, dtype):
    """RGB [B,3,H,W], depth, labels [B] of one group of a plan's step."""
    rgb = [picture(pair["rgb"], settings, pair, pair["turns_rgb"]) for pair in pairs]
    depth = [picture(pair["depth"], settings, pair, pair["turns_depth"]) for pair in pairs]
    labels = torch.tensor([pair["label"] for pair in pairs])
    return torch.stack(rgb).to(dtype), torch.stack(depth).to(dtype), labels


def train_step(net, optimizers, settings, step, dtype):
    """One step of a plan. Returns the four losses as Rodeo names them."""
    groups = {group["loader"]: group_tensors(group["pairs"], settings, dtype)
              for group in step["groups"]}
    batch = settings["batch_size"]
    net.drop_main.step = net.drop_rotation.step = step["dropout_step"]
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    losses = dict.fromkeys(("cls", "ent", "rot_source", "rot_target"), 0.0)
    rgb, depth, labels = groups["source"]
    net.drop_main.first_row = 0
    loss = functional.cross_entropy(net.classify(rgb, depth), labels)
    losses["cls"] = loss.item()
    if "target" in groups:
        rgb, depth, _ = groups["target"]
        net.drop_main.first_row = batch
        loss_ent = entropy(net.classify(rgb, depth))
        losses["ent"] = loss_ent.item()
        loss = loss + settings["weight_ent"] * loss_ent
    loss.backward()
    for index, domain in enumerate(("source", "target")):
        if domain + "_rotation" in groups:
            rgb, depth, labels = groups[domain + "_rotation"]
            net.drop_rotation.first_row = index * batch
            loss = functional.cross_entropy(net.tell_rotation(rgb, depth), labels)
            losses["rot_" + domain] = loss.item()
            (settings["weight_rot"] * loss).backward()
    for optimizer in optimizers:
        optimizer.step()
    return losses


def save_checkpoint(path, epoch, net, optimizers, **options):
    """checkpoint.pth as the original program lays it out; options are torch.save's."""
    torch.save({"epoch": epoch, "time": time.time(),
                "modules": [module.state_dict() for module in net.modules],
                "optimizers": [optimizer.state_dict() for optimizer in optimizers]}, path, **options)


def set_momentum(net, optimizers, tensors):
    """Gives the optimizers the momentum of a Rodeo checkpoint."""
    for name, module, optimizer in zip(MODULES, net.modules, optimizers):
        for key, parameter in module.named_parameters():
            momentum = tensors[f"momentum.{name}.{key}"].to(parameter.dtype)
            if torch.count_nonzero(momentum):
                optimizer.state[parameter]["momentum_buffer"] = momentum.clone()


def as_array(tensor):
    return tensor.detach().double().numpy() if tensor.is_floating_point() else tensor.numpy()


def norm(values):
    return float(np.linalg.norm(np.asarray(values, dtype=np.float64).reshape(-1)))
