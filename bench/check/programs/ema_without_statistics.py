# rows 36 | rule averaged-without-statistics
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = 3 + 2 * torch.randn(160, 1, 8, 8)
y = (x.mean((1, 2, 3)) > 3).long()
net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))
ema = copy.deepcopy(net).requires_grad_(False).eval()
opt = torch.optim.SGD(net.parameters(), 0.05)
loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
for epoch in range(6):
    for a, b in loader:
        loss = nn.functional.cross_entropy(net(a), b)
        opt.zero_grad()
        loss.backward()
        opt.step()
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), net.parameters()):
                slow.lerp_(fast, 0.1)
            for slow, fast in zip(ema.buffers(), net.buffers()):  # well
                slow.copy_(fast)  # well
    with torch.no_grad():
        print(epoch, loss.item(), (ema(x).argmax(1) == y).float().mean().item())  # here
