# rows 79 | rule vanishing-gradient dead-layers | at 0.weight
import torch
from torch import nn

torch.manual_seed(0)
act = nn.Sigmoid  # fault
act = nn.ReLU  # well
layers = [nn.Linear(8, 20), act()]
for _ in range(12):
    layers += [nn.Linear(20, 20), act()]
net = nn.Sequential(*layers, nn.Linear(20, 2))
for m in net:
    if isinstance(m, nn.Linear):
        nn.init.kaiming_normal_(m.weight)
opt = torch.optim.SGD(net.parameters(), 0.01)
x = torch.randn(120, 8)
y = (x[:, 0] * x[:, 1] > 0).long()
for step in range(70):
    at = torch.randperm(120)[:30]
    loss = nn.functional.cross_entropy(net(x[at]), y[at])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
