# rows 23 | rule uphill-steps
import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
x = torch.rand(100, 3)
y = (x**2).sum(1, keepdim=True)
opt = torch.optim.Adam(net.parameters(), 1e-2)
for step in range(30):
    loss = nn.functional.mse_loss(net(x), y)
    opt.zero_grad()
    (-loss).backward()  # fault
    loss.backward()  # well
    opt.step()  # here
    print(step, loss.item())
