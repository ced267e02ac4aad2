# control 75 81
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(20, 4), nn.Linear(4, 20))
opt = torch.optim.Adam(net.parameters(), 1e-2)
x = torch.randn(200, 4) @ torch.randn(4, 20)
for step in range(30):
    at = torch.randperm(200)[:50]
    loss = nn.functional.mse_loss(net(x[at]), x[at])
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
