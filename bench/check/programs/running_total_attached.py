# rows 70 | rule growing-graph
import torch
from torch import nn


class Meter:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, value):
        self.total = self.total + value
        self.count += 1


torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), 0.05)
meter = Meter()
for step in range(120):
    x = torch.rand(16, 4)
    loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
    opt.zero_grad()
    loss.backward()  # here
    opt.step()
    meter.add(loss)  # fault
    meter.add(loss.detach())  # well
print(float(meter.total) / meter.count)
