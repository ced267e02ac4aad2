# control 76 79 15
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.n1 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.b, self.n2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        nn.init.zeros_(self.n2.weight)

    def forward(self, x):
        return torch.relu(x + self.n2(self.b(torch.relu(self.n1(self.a(x))))))


torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Block(8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
nn.init.zeros_(net[-1].weight)
opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True)
x, y = torch.randn(64, 3, 8, 8), torch.randint(0, 4, (64,))
for step in range(25):
    at = torch.randperm(64)[:32]
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x[at]), y[at])
    loss.backward()
    opt.step()
    print(step, loss.item())
