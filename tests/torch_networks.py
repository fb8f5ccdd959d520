"""The field's networks in PyTorch, written from their descriptions, to compare ours with.

Names of parameters and forward passes are those of the programs: checkpoints of theirs load here.
Widths are arguments, so that tests are quick; the mean is over the whole map (the programs average
over 8x8 or 4x4 pixels, which is all of it for their 32x32 images).
"""

import functools

import torch
from torch import nn


def conv(before, filters, kernel=3, stride=1, padding=1):
    return nn.Conv2d(before, filters, kernel, stride, padding, bias=False)


def pooled(x):
    return x.mean((2, 3))


class WideBlock(nn.Module):
    def __init__(self, before, filters, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), conv(before, filters, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(filters), conv(filters, filters)
        if before != filters:
            self.convShortcut = conv(before, filters, 1, stride, 0)

    def forward(self, x):
        out = torch.relu(self.bn1(x))
        skip = self.convShortcut(out) if hasattr(self, "convShortcut") else x
        return skip + self.conv2(torch.relu(self.bn2(self.conv1(out))))


class WideStage(nn.Module):
    def __init__(self, blocks, before, filters, stride):
        super().__init__()
        first = WideBlock(before, filters, stride)
        self.layer = nn.Sequential(
            first, *[WideBlock(filters, filters, 1) for _ in range(blocks - 1)]
        )

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    """TRADES, Carmon et al., Rice et al., Feature Scattering, ATLD, squeeze training.

    With `unused` it has the first stage that the constructor of TRADES makes and never calls.
    """

    def __init__(self, depth=34, width=10, classes=10, channels=3, unused=False):
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = conv(channels, 16)
        self.block1 = WideStage(blocks, *widths[0:2], 1)
        if unused:
            self.sub_block1 = WideStage(blocks, *widths[0:2], 1)
        self.block2 = WideStage(blocks, *widths[1:3], 2)
        self.block3 = WideStage(blocks, *widths[2:4], 2)
        self.bn1, self.fc = nn.BatchNorm2d(widths[3]), nn.Linear(widths[3], classes)

    def features(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return pooled(torch.relu(self.bn1(x)))

    def forward(self, x):
        return self.fc(self.features(x))


class WideDiscriminator(WideResNet):
    """ATLD's `Discriminator_2`, on logits as an image of one pixel; gives (natural, classes)."""

    def __init__(self, depth=28, width=5, classes=10):
        super().__init__(depth, width, 1, classes)
        self.fc2 = nn.Linear(64 * width, classes)

    def forward(self, z):
        features = self.features(z[:, :, None, None])
        return torch.sigmoid(self.fc(features))[:, 0], self.fc2(features)


class InRange(nn.Module):
    """Feature Scattering and ATLD: `basic_net` sees images in [-1, 1]."""

    def __init__(self, basic_net):
        super().__init__()
        self.basic_net = basic_net

    def forward(self, x):
        return self.basic_net(2 * x - 1)


class Normalization(nn.Module):
    """(x - mean) / std, stored as `mean` and `std` where `stored`."""

    def __init__(self, mean, std, stored=False):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            values = torch.tensor(values).view(-1, 1, 1)
            self.register_buffer(name, values, persistent=stored)

    def forward(self, x):
        return (x - self.mean) / self.std


def pad_below_and_right(x, stride):
    return nn.functional.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))


class DeepMindBlock(nn.Module):
    def __init__(self, before, filters, stride):
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(before, momentum=0.01)
        self.conv_0 = conv(before, filters, 3, stride, 0)
        self.batchnorm_1 = nn.BatchNorm2d(filters, momentum=0.01)
        self.conv_1 = conv(filters, filters)
        if before != filters:
            self.shortcut = conv(before, filters, 1, stride, 0)

    def forward(self, x):
        out = nn.functional.silu(self.batchnorm_0(x))
        skip = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.batchnorm_1(self.conv_0(pad_below_and_right(out, self.stride)))
        return skip + self.conv_1(nn.functional.silu(out))


class DeepMindStage(nn.Module):
    def __init__(self, blocks, before, filters, stride):
        super().__init__()
        first = DeepMindBlock(before, filters, stride)
        self.block = nn.Sequential(
            first, *[DeepMindBlock(filters, filters, 1) for _ in range(blocks - 1)]
        )

    def forward(self, x):
        return self.block(x)


class DeepMindWideResNet(nn.Module):
    """Gowal et al., Rebuffi et al., Wang et al.; mean and std are not in its state dict."""

    def __init__(self, mean, std, depth=28, width=10, classes=10):
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.normalization = Normalization(mean, std)
        self.init_conv = conv(len(mean), 16)
        self.layer = nn.Sequential(
            *[DeepMindStage(blocks, *widths[i : i + 2], stride=min(i + 1, 2)) for i in range(3)]
        )
        self.batchnorm = nn.BatchNorm2d(widths[3], momentum=0.01)
        self.logits = nn.Linear(widths[3], classes)

    def forward(self, x):
        x = self.layer(self.init_conv(self.normalization(x)))
        return self.logits(pooled(nn.functional.silu(self.batchnorm(x))))


class DeepMindPreActBlock(nn.Module):
    def __init__(self, before, filters, stride):
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(before, momentum=0.01)
        self.conv_2d_1 = conv(before, filters, 3, stride, 0)
        self.batchnorm_1 = nn.BatchNorm2d(filters, momentum=0.01)
        self.conv_2d_2 = conv(filters, filters)
        if stride > 1 or before != filters:
            self.shortcut = conv(before, filters, 3, stride, 0)

    def forward(self, x):
        out = nn.functional.silu(self.batchnorm_0(x))
        skip = x
        if hasattr(self, "shortcut"):
            skip = self.shortcut(pad_below_and_right(x, self.stride))
        out = self.batchnorm_1(self.conv_2d_1(pad_below_and_right(out, self.stride)))
        return skip + self.conv_2d_2(nn.functional.silu(out))


class DeepMindPreActResNet18(nn.Module):
    """Rebuffi et al.; mean and std are not in its state dict."""

    def __init__(self, mean, std, widths=(64, 128, 256, 512), classes=10):
        super().__init__()
        self.normalization = Normalization(mean, std)
        self.conv_2d = conv(len(mean), widths[0])
        stages = four_stages(DeepMindPreActBlock, widths, (2, 2, 2, 2))
        self.layer_0, self.layer_1, self.layer_2, self.layer_3 = stages
        self.batchnorm = nn.BatchNorm2d(widths[-1], momentum=0.01)
        self.logits = nn.Linear(widths[-1], classes)

    def forward(self, x):
        x = self.conv_2d(self.normalization(x))
        x = self.layer_3(self.layer_2(self.layer_1(self.layer_0(x))))
        return self.logits(pooled(nn.functional.silu(self.batchnorm(x))))


def four_stages(block, widths, blocks, expansion=1):
    """The stages of blocks (channels before, width, stride), the first of which keeps the size."""
    stages, before = [], widths[0]
    for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        layers = []
        for index in range(count):
            layers.append(block(before, width, 2 if number and not index else 1))
            before = expansion * width
        stages.append(nn.Sequential(*layers))
    return stages


class PreActBlock(nn.Module):
    def __init__(self, before, filters, stride, raw):
        super().__init__()
        self.raw = raw
        self.bn1, self.conv1 = nn.BatchNorm2d(before), conv(before, filters, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(filters), conv(filters, filters)
        if stride > 1 or before != filters:
            self.shortcut = nn.Sequential(conv(before, filters, 1, stride, 0))

    def forward(self, x):
        out = torch.relu(self.bn1(x))
        skip = self.shortcut(x if self.raw else out) if hasattr(self, "shortcut") else x
        return skip + self.conv2(torch.relu(self.bn2(self.conv1(out))))


class PreActResNet18(nn.Module):
    """Rice et al.; with `raw` shortcuts Wong et al., without `last_bn` as RobustBench has them."""

    def __init__(self, widths=(64, 128, 256, 512), classes=10, raw=False, last_bn=True, channels=3):
        super().__init__()
        self.conv1 = conv(channels, widths[0])
        stages = four_stages(functools.partial(PreActBlock, raw=raw), widths, (2, 2, 2, 2))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        if last_bn:
            self.bn = nn.BatchNorm2d(widths[-1])
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.linear(pooled(torch.relu(self.bn(x)) if hasattr(self, "bn") else x))


class ResidualBlock(nn.Module):
    """`kernels` of its convolutions, the first 3x3 of which has the stride."""

    def __init__(self, before, width, stride, kernels, shortcut):
        super().__init__()
        after = width * (4 if len(kernels) == 3 else 1)
        self.layers, self.skip, inner = len(kernels), shortcut, before
        strides = [1] * len(kernels)
        strides[kernels.index(3)] = stride
        for number, (kernel, step) in enumerate(zip(kernels, strides, strict=True), start=1):
            filters = after if number == len(kernels) else width
            setattr(self, f"conv{number}", conv(inner, filters, kernel, step, kernel // 2))
            setattr(self, f"bn{number}", nn.BatchNorm2d(filters))
            inner = filters
        if stride > 1 or before != after:
            projection = nn.Sequential(conv(before, after, 1, stride, 0), nn.BatchNorm2d(after))
        else:
            projection = nn.Sequential()
        self.add_module(shortcut, projection)

    def forward(self, x):
        skip = getattr(self, self.skip)(x)
        for number in range(1, self.layers + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            x = torch.relu(x + skip if number == self.layers else x)
        return x


class ResNet(nn.Module):
    """ResNet-18 or 50 of the CIFAR programs, or with `imagenet` that of torchvision and timm."""

    def __init__(self, depth, widths=(64, 128, 256, 512), classes=10, imagenet=False, channels=3):
        super().__init__()
        self.imagenet = imagenet
        kernels, blocks = {18: ((3, 3), (2, 2, 2, 2)), 50: ((1, 3, 1), (3, 4, 6, 3))}[depth]
        shortcut = "downsample" if imagenet else "shortcut"
        block = functools.partial(ResidualBlock, kernels=kernels, shortcut=shortcut)
        expansion = 4 if depth == 50 else 1
        stem = (7, 2, 3) if imagenet else (3, 1, 1)
        self.conv1, self.bn1 = conv(channels, widths[0], *stem), nn.BatchNorm2d(widths[0])
        stages = four_stages(block, widths, blocks, expansion)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        last = nn.Linear(expansion * widths[-1], classes)
        self.add_module("fc" if imagenet else "linear", last)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        if self.imagenet:
            x = nn.functional.max_pool2d(x, 3, 2, 1)
        x = pooled(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return self.fc(x) if self.imagenet else self.linear(x)


class SmallCNN(nn.Module):
    """TRADES' network for MNIST; `side` of the images."""

    def __init__(self, side=28, classes=10, filters=(32, 64), hidden=200):
        super().__init__()
        first, second = filters
        layers = {"conv1": nn.Conv2d(1, first, 3), "relu1": nn.ReLU()}
        layers |= {"conv2": nn.Conv2d(first, first, 3), "relu2": nn.ReLU()}
        layers |= {"maxpool1": nn.MaxPool2d(2)}
        layers |= {"conv3": nn.Conv2d(first, second, 3), "relu3": nn.ReLU()}
        layers |= {"conv4": nn.Conv2d(second, second, 3), "relu4": nn.ReLU()}
        layers |= {"maxpool2": nn.MaxPool2d(2)}
        self.feature_extractor = named(layers)
        flat = second * (((side - 4) // 2 - 4) // 2) ** 2
        layers = {"fc1": nn.Linear(flat, hidden), "relu1": nn.ReLU(), "drop": nn.Dropout(0.5)}
        layers |= {"fc2": nn.Linear(hidden, hidden), "relu2": nn.ReLU()}
        self.classifier = named({**layers, "fc3": nn.Linear(hidden, classes)})

    def forward(self, x):
        return self.classifier(self.feature_extractor(x).flatten(1))


def named(layers):
    sequential = nn.Sequential()
    for name, layer in layers.items():
        sequential.add_module(name, layer)
    return sequential


def strided_cnn(side=28, classes=10, filters=(16, 32), hidden=100):
    """Wong et al.'s network for MNIST."""
    first, second = filters
    return nn.Sequential(
        nn.Conv2d(1, first, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(first, second, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * (side // 4) ** 2, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


@torch.no_grad()
def randomize(network, seed=0):
    """Parameters and averages of batch normalization such that every layer matters.

    Branches are small beside skips, or rounding grows with depth: with scales around 1, PyTorch's
    ResNet-50 in float32 is 1e-4 from itself in float64 where batches normalize.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, values in network.state_dict().items():
        if values.ndim > 1 and name.endswith("weight"):
            scale = (1 / values[0].numel()) ** 0.5
            values.copy_(scale * torch.randn(values.shape, generator=generator))
        elif values.ndim == 1 and name.endswith(("weight", "running_var")):
            scale = 0.3 if name.endswith("bn3.weight") else 1
            values.copy_(scale * (0.2 + 0.4 * torch.rand(values.shape, generator=generator)))
        elif values.ndim == 1:
            values.copy_(0.4 * torch.rand(values.shape, generator=generator) - 0.2)
    return network
