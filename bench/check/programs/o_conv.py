# control 80
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10))
opt = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
x = torch.randn(256, 3, 24, 24)
y = (x.mean((1, 2, 3)) * 100).long().clamp(-4, 5) + 4
for step in range(120):
    at = torch.randint(0, 256, (32,))
    loss = nn.functional.cross_entropy(net(x[at]), y[at])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 20 == 0:
        print(step, loss.item())
