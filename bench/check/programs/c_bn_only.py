# control 10 29
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4))
net.requires_grad_(False)
tuned = [p for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
for p in tuned:
    p.requires_grad_(True)
opt = torch.optim.SGD(tuned, 0.1)
x, y = torch.randn(64, 1, 8, 8), torch.randint(0, 4, (64,))
for step in range(20):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    print(step, loss.item())
