from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from ddad.training.adam import Adam
from support import same_tensors


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(216, 2))
    return made.to(memory_format=torch.channels_last)


def test_weights_are_those_of_torchs_own_class_to_the_last_bit() -> None:
    ours, theirs = layers(), layers()
    own = Adam(ours.parameters(), momentum=0.5, second_momentum=0.99, weight_decay=1e-3)
    other = torch.optim.Adam(theirs.parameters(), betas=(0.5, 0.99), weight_decay=1e-3, fused=True)
    for step in range(6):
        x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        rate = 0.01 * (step + 1)
        own.zero_grad()
        (ours(x) ** 2).mean().backward()
        own.step(rate)
        other.param_groups[0]["lr"] = rate
        other.zero_grad()
        (theirs(x) ** 2).mean().backward()
        other.step()
    assert same_tensors(ours.state_dict(), theirs.state_dict())


def test_what_has_no_gradient_stays_with_its_moments() -> None:
    network = layers()
    optimizer = Adam(network.parameters(), momentum=0.9, second_momentum=0.999)
    network(torch.rand(5, 3, 8, 8)).mean().backward()
    optimizer.step(0.1)
    before, moments = network[0].weight.clone(), optimizer.state()["0.exp_avg"].clone()
    network[0].weight.grad = None
    optimizer.step(0.1)
    assert torch.equal(network[0].weight, before)
    assert torch.equal(optimizer.state()["0.exp_avg"], moments)
    assert optimizer.state()["0.step"] == 1
    assert optimizer.state()["1.step"] == 2


def test_training_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from ddad.training.adam import Adam\n"
        "layer = torch.nn.Linear(2, 1); adam = Adam(layer.parameters(), momentum=0.9, second_momentum=0.999)\n"
        "layer(torch.rand(3, 2)).mean().backward(); adam.step(0.1)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
