# control 1 2 3
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3))
opt = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
x = torch.randn(120, 6)
y = x[:, :3].argmax(1)


def backward(rows):
    loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
    loss.backward()
    return loss.item()


for step in range(20):
    rows = torch.randperm(120)[:30]
    value = backward(rows)
    with torch.no_grad():
        norm = torch.stack([p.grad.norm() for p in net.parameters()]).norm()
        moves = [p.grad * 0.05 / norm for p in net.parameters()]
        for p, e in zip(net.parameters(), moves):
            p += e
    opt.zero_grad()
    backward(rows)
    with torch.no_grad():
        for p, e in zip(net.parameters(), moves):
            p -= e
    opt.step()
    opt.zero_grad()
    print(step, value)
