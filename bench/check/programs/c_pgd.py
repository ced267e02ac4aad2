# control 3 4 23
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
opt = torch.optim.SGD(net.parameters(), 0.1)
x = torch.randn(160, 8)
y = (x[:, 0] > 0).long()
for step in range(15):
    at = torch.randperm(160)[:40]
    delta = torch.zeros(40, 8, requires_grad=True)
    for _ in range(3):
        F.cross_entropy(net(x[at] + delta), y[at]).backward()
        delta.data = (delta + 0.05 * delta.grad.sign()).clamp(-0.1, 0.1).detach()
        delta.grad = None
    opt.zero_grad()
    loss = F.cross_entropy(net(x[at] + delta.detach()), y[at])
    loss.backward()
    opt.step()
    print(step, loss.item())
