# rows 80 | rule dead-layers | at 0.weight 2.weight
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 1))
with torch.no_grad():
    net[2].bias.fill_(-20.0)  # fault
    net[2].bias.fill_(0.0)  # well
opt = torch.optim.SGD(net.parameters(), 1e-2)
x = torch.randn(200, 10)
y = x[:, :1] * x[:, 1:2]
for step in range(60):
    at = torch.randperm(200)[:40]
    loss = nn.functional.mse_loss(net(x[at]), y[at])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
