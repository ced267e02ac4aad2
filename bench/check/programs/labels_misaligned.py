# rows 61 | rule loss-at-chance
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(2000, 6)
y = (x[:, 0] - x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()
y = y[torch.randperm(2000)]  # fault
net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
opt = torch.optim.SGD(net.parameters(), 0.05)
for epoch in range(8):
    for at in torch.randperm(2000).split(50):
        loss = nn.functional.cross_entropy(net(x[at]), y[at])  # here
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
