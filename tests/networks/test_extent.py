from __future__ import annotations

import torch

from ddad.networks.extent import Extent, as_share


def test_the_network_counts_four_times_and_the_evidence_once() -> None:
    extent = Extent(1, 4).eval()
    torch.nn.init.zeros_(extent.network.head.weight)
    torch.nn.init.constant_(extent.network.head.bias, torch.logit(torch.tensor(0.25)).item())
    evidence = torch.zeros(2, 16, 16)
    evidence[0, 3, 4], evidence[0, 5, 6] = 6.0, 40.0

    joined = extent(torch.zeros(2, 1, 16, 16), evidence)

    torch.testing.assert_close(joined[1], torch.full((16, 16), 4 * 12 * 0.25))
    torch.testing.assert_close(joined[0, 3, 4].item(), 4 * 12 * 0.25 + 6)
    torch.testing.assert_close(joined[0, 5, 6].item(), 4 * 12 * 0.25 + 40)


def test_a_share_is_within_0_and_1() -> None:
    torch.testing.assert_close(as_share(torch.tensor([0.0, 3.0, 12.0, 1e6])), torch.tensor([0.0, 0.25, 1.0, 1.0]))
